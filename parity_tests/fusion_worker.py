"""What TensorFlow's optimiser makes of SavedModels' networks, in the TensorFlow of the Python that runs this file.

Stand-alone: Python 3.8 syntax, and no imports from this project, which is not installed beside TensorFlow 2.2.

    python fusion_worker.py OUT.json SAVED_MODEL...

Each SavedModel's batch signature is called once, and the graph that ran is written as
{SAVED_MODEL: {node: {"op": operator, "fused": [what is computed in the same kernel]}}}.
"""

import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context

SIGNATURE = "embed_resized"


def graph_that_ran(folder):
    """{node: {"op", "fused"}} of the largest graph that a call of the signature runs, after it was partitioned by device."""
    loaded = tf.saved_model.load(folder)
    signature = loaded.signatures[SIGNATURE]
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)
    images = {name: tf.convert_to_tensor(pixels) for name in signature.structured_input_signature[1]}
    context.enable_run_metadata()
    signature(**images)
    ran = [graph for function in context.export_run_metadata().function_graphs for graph in function.partition_graphs]
    context.disable_run_metadata()
    nodes = max(ran, key=lambda graph: len(graph.node)).node
    # A node's name is prefixed with the calls that it was inlined from.
    names = {node.name: node.name.rpartition("PartitionedCall/")[2] for node in nodes}
    fused = {node.name: [part.decode() for part in node.attr["fused_ops"].list.s] for node in nodes}
    return {names[node.name]: {"op": node.op, "fused": fused[node.name]} for node in nodes}


if __name__ == "__main__":
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        json.dump({folder: graph_that_ran(folder) for folder in sys.argv[2:]}, file)
