"""What a TensorFlow's own optimiser makes of SavedModels' networks; for the tests, in whichever TensorFlow its python has.

Stand-alone: Python 3.8 syntax, and no import of ours, because the environment of TensorFlow 2.2 holds nothing of ours.

    python fusion_worker.py OUT.json SAVED_MODEL...

Each SavedModel's batch signature is called once, and the graph that then ran is written:
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
    """{node: {"op", "fused"}} of the biggest graph that a call of the signature runs, as it was cut into devices."""
    loaded = tf.saved_model.load(folder)
    signature = loaded.signatures[SIGNATURE]
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)
    images = {name: tf.convert_to_tensor(pixels) for name in signature.structured_input_signature[1]}
    context.enable_run_metadata()
    signature(**images)
    ran = [graph for function in context.export_run_metadata().function_graphs for graph in function.partition_graphs]
    context.disable_run_metadata()
    nodes = max(ran, key=lambda graph: len(graph.node)).node
    # The calls that a node was inlined from stand before its name.
    names = {node.name: node.name.rpartition("PartitionedCall/")[2] for node in nodes}
    fused = {node.name: [part.decode() for part in node.attr["fused_ops"].list.s] for node in nodes}
    return {names[node.name]: {"op": node.op, "fused": fused[node.name]} for node in nodes}


if __name__ == "__main__":
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        json.dump({folder: graph_that_ran(folder) for folder in sys.argv[2:]}, file)
