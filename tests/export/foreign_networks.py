"""Small ONNX files as other people's exporters could write them."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

RANDOM = np.random.default_rng(5)
WEIGHTS = {"w": RANDOM.normal(size=(4, 3, 3, 3)).astype(np.float32), "one": np.ones(1, np.float32)}
IMAGES = ("images of anything", TensorProto.FLOAT, ("batch", 3, "height", "width"))
CONV = helper.make_node("Conv", [IMAGES[0], "w"], ["map"], "a/conv", doc_string="at /home/somebody/model.py")
POOL = helper.make_node("GlobalAveragePool", ["map"], ["pooled"], "pool")
FLAT = helper.make_node("Flatten", ["pooled"], ["vector"], "flat")


def node(op: str, inputs: list[str], outputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, outputs, f"my {op}", **attributes)


def written(
    path: Path,
    nodes: list[onnx.NodeProto],
    *,
    inputs: tuple = (IMAGES,),
    outputs: tuple = ("vector",),
    weights: dict[str, np.ndarray] = WEIGHTS,
    opset: int = 13,
) -> Path:
    """An ONNX file; an input is (name, type, shape)."""
    graph = helper.make_graph(
        nodes,
        "somebody's",
        [helper.make_tensor_value_info(*given) for given in inputs],
        [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8, producer_name="some tool 2"
    )
    path.write_bytes(onnx.shape_inference.infer_shapes(model).SerializeToString())
    return path
