"""Normal form → TensorFlow graph by unmodified onnx2tf; the child process of `export/writer/onnx2tf.py`.

Example:
    python -m export.writer.onnx2tf_worker --onnx normal_form.onnx --out FOLDER

FOLDER gets graph.pb, a GraphDef from pixels to descriptors with a placeholder per weight, and weights.safetensors.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # onnx2tf builds its networks with Keras 2

import onnx

from export.writer.graph import DYNAMIC, PIXELS, SMALL, NetworkGraph, _normalised, tf
from export.writer.member import _placeholder
from export.writer.onnx2tf import GRAPH, INSTALL, OUTPUTS, WEIGHTS
from zoo.arguments import ranged
from zoo.command import run
from zoo.errors import MissingToolError
from zoo.specs import read_spec
from zoo.strict import Pixels
from zoo.tensors import write_tensors


def keras_network(model: onnx.ModelProto) -> Any:
    """A normal form as onnx2tf's Keras network, from normalised maps [N, H, W, 3] to descriptors [N, D].

    Raises:
        MissingToolError: onnx2tf or one of the packages that it imports is not installed.
    """
    try:
        import onnx2tf
    except ImportError as error:
        raise MissingToolError(f"onnx2tf cannot be imported ({error}). {INSTALL}") from error
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        return onnx2tf.convert(
            onnx_graph=model,
            output_folder_path=folder,
            not_use_onnxsim=True,  # onnxsim would undo the normal form's explicit padding
            disable_model_save=True,
            non_verbose=True,
        )


def network_graph(model: onnx.ModelProto, size: int | None = None) -> NetworkGraph:
    """The graph that onnx2tf makes of a normal form, preceded by the normalisation of pixels.

    Args:
        model: a normal form with the project's metadata.
        size: side in pixels of the only images that the graph takes; None for any size.
    """
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    [spec] = [json.loads(entry.value) for entry in model.metadata_props if entry.key == "spec"]
    preprocess, network = read_spec(spec).preprocess, keras_network(model)
    pixels = tf.TensorSpec((None, size, size, 3) if size else DYNAMIC, tf.float32, name=PIXELS)
    call = tf.function(lambda pixels: network(_normalised(pixels, preprocess)), input_signature=[pixels])
    frozen = convert_variables_to_constants_v2(call.get_concrete_function())
    [output] = frozen.outputs
    # A function's output is an Identity of the network's.
    name = output.op.inputs[0].name if output.op.type == "Identity" else output.name
    graph_def = frozen.graph.as_graph_def()
    return NetworkGraph(graph_def, [name], _take_constants(graph_def))


def _take_constants(graph_def: Any) -> dict[str, Any]:
    """Replaces a graph's float32 constants of more than `SMALL` numbers by placeholders and returns their arrays."""
    weights = {}
    for node in graph_def.node:
        if node.op == "Const" and node.attr["dtype"].type == tf.float32.as_datatype_enum:
            array = tf.make_ndarray(node.attr["value"].tensor)
            if array.size > SMALL:
                weights[node.name] = array
                node.CopyFrom(_placeholder(node.name, array))
    return weights


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--onnx", required=True, type=Path, help="a normal form; its metadata has the spec")
    parser.add_argument("--out", required=True, type=Path, help="an existing folder for the two files")
    parser.add_argument(
        "--size", type=ranged(Pixels), help="side in pixels of the only images to take; default: any size"
    )
    arguments = parser.parse_args()
    graph = network_graph(onnx.load(arguments.onnx), arguments.size)
    write_tensors(arguments.out / WEIGHTS, graph.weights, {OUTPUTS: "\n".join(graph.outputs)})
    (arguments.out / GRAPH).write_bytes(graph.graph_def.SerializeToString(deterministic=True))
    print(arguments.out)


if __name__ == "__main__":
    run(main)
