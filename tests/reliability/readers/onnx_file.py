"""ONNX files, read by each command that takes one (`export.onnx_file`)."""

import contextlib
import json
from pathlib import Path

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from export.embedder import OnnxDescriber
from export.normal_form.rewrites import normal_form
from export.onnx_file import read_onnx
from export.onnx_metadata import source_of
from export.storage import BY_SIZE
from tests.reliability.mutations import damaged
from tests.reliability.protobufs import changed
from tests.reliability.reader import Reader
from zoo.errors import ExportError, ZooError
from zoo.variants import get_spec


def _valid() -> bytes:
    random = np.random.default_rng(0)
    weights = {"w": random.normal(size=(4, 3, 3, 3)), "m": random.normal(size=(4, 2)), "s": np.array([1, 2])}
    nodes = [
        helper.make_node("Conv", ["images", "w"], ["a"], "conv", pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("ReduceMean", ["b"], ["c"], "mean", axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["c", "m"], ["d"], "neck"),
        helper.make_node("Constant", [], ["one"], "one", value=numpy_helper.from_array(np.ones(1, np.float32), "v")),
        helper.make_node("Mul", ["d", "one"], ["descriptors"], "scale"),
    ]
    initializers = [
        numpy_helper.from_array(value.astype(np.int64 if name == "s" else np.float32), name)
        for name, value in weights.items()
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("descriptors", TensorProto.FLOAT, ["n", 2])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    spec = json.dumps(get_spec("resnet10_narrow").to_dict())
    properties = {"spec": spec, "checkpoint_sha256": "0" * 64, "exported_from": "torch", "versions": "{}"}
    helper.set_model_props(model, properties)
    return model.SerializeToString()


_MODEL = _valid()


@st.composite
def _hostile(draw: st.DrawFn) -> bytes:
    """Tensors that claim more than they hold, subgraphs in subgraphs, weights in other files, operators that spread."""
    model = onnx.ModelProto.FromString(_MODEL)
    kind = draw(st.sampled_from(("claim", "axes", "external", "nested", "op", "function", "metadata", "expand")))
    tensor = model.graph.initializer[draw(st.integers(0, 2))]
    if kind == "claim":
        del tensor.dims[:]
        tensor.dims.extend(draw(st.sampled_from(([2**40], [2**21] * 3, [-1, 5], [2**31, 2**31], [0, 2**62]))))
    elif kind == "axes":
        del tensor.dims[:]
        tensor.dims.extend([1] * draw(st.sampled_from((9, 70, 1000))))
    elif kind == "external":
        tensor.data_location = TensorProto.EXTERNAL
        place = draw(st.sampled_from(("/etc/passwd", "../x", "http://example.invalid/x", "weights.bin")))
        tensor.external_data.add(key="location", value=place)
    elif kind == "nested":
        graph = onnx.GraphProto.FromString(model.graph.SerializeToString())
        for _ in range(draw(st.sampled_from((1, 3, 10)))):
            outer = onnx.GraphProto(name="g")
            outer.node.append(helper.make_node("If", ["c"], ["o"], then_branch=graph, else_branch=graph))
            graph = outer
        model.graph.node.extend(graph.node)
    elif kind == "op":
        node = model.graph.node[draw(st.integers(0, 5))]
        node.op_type = draw(
            st.sampled_from(("ConstantOfShape", "Expand", "Tile", "Range", "Loop", "PyOp", "", "Conv", "x" * 5000))
        )
        node.domain = draw(st.sampled_from(("", "ai.onnx.contrib", "com.microsoft", "evil")))
    elif kind == "function":
        model.functions.add(name="f", domain="", overload="")
    elif kind == "metadata":
        entry = model.metadata_props[draw(st.integers(0, 3))]
        entry.value = draw(
            st.sampled_from(("", "null", "[" * 100_000, "9" * 5000, "{}", "[1]", '{"a": 1}', "NaN", "x"))
        )
    else:
        model.graph.initializer[2].CopyFrom(numpy_helper.from_array(np.array([2**20, 2**20]), "s"))
        model.graph.node.append(helper.make_node("Expand", ["one", "s"], ["big"]))
    return model.SerializeToString()


def _read(path: Path) -> None:
    model = read_onnx(path)
    errors: list[ZooError] = []
    for read in (lambda: source_of(model, path, BY_SIZE), lambda: OnnxDescriber(path)):
        try:
            read()
        except ZooError as error:
            errors.append(error)
    # The command reports these as an error of the file.
    with contextlib.suppress(ValueError, KeyError, IndexError, TypeError, AttributeError, RuntimeError, ExportError):
        normal_form(model)
    if errors:
        raise errors[0]


READER = Reader(
    "ONNX file",
    st.one_of(damaged(_MODEL), changed(onnx.ModelProto, _MODEL, ("a", "b", "w", "images")), _hostile()),
    _read,
    place="model.onnx",
)
