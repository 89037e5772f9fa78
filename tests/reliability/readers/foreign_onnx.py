"""ONNX files from elsewhere with their weights in a file beside them (`export.onnx_file.read_foreign_onnx`)."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxsim
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from export import onnx_runtime
from export.from_onnx import from_onnx
from export.onnx_file import foreign_files, read_foreign_onnx
from tests.reliability.mutations import damaged
from tests.reliability.protobufs import changed
from tests.reliability.reader import Files, Reader
from zoo.errors import ExportError
from zoo.specs import PreprocessSpec

SIDE = 32
NAME, DATA = "model.onnx", "model.onnx.data"


def _valid() -> dict[str, bytes]:
    """A convolution from another file, a function, and sizes that the graph computes: a map is enlarged and made flat."""
    node, random = helper.make_node, np.random.default_rng(0)
    weights = {name: random.normal(size=shape) for name, shape in {"w": (4, 3, 3, 3), "m": (4, 2)}.items()}
    numbers = {"two": [1, 1, 2, 2], "axis": [0], "rest": [-1, 4], "four": [4]}
    nodes = [
        node("Conv", ["images", "w"], ["a"], "conv", pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        node("swish", ["a"], ["b"], "act", domain="local"),
        node("Resize", ["b", "", "scales"], ["c"], "resize", mode="nearest"),
        node("GlobalAveragePool", ["c"], ["d"], "pool"),
        node("Shape", ["d"], ["shape"], "shape"),
        node("Gather", ["shape", "axis"], ["n"], "batch"),
        node("Concat", ["n", "four"], ["flat"], "flat", axis=0),
        node("Reshape", ["d", "flat"], ["e"], "reshape"),
        node("ConstantOfShape", ["flat"], ["zeros"], "zeros"),
        node("Add", ["e", "zeros"], ["f"], "add"),
        node("MatMul", ["f", "m"], ["descriptors"], "neck"),
    ]
    values = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    values += [numpy_helper.from_array(np.array(value), name) for name, value in numbers.items()]
    values.append(numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales"))
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("descriptors", TensorProto.FLOAT, ["n", 2])],
        values,
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]
    body = [node("Sigmoid", ["x"], ["s"]), node("Mul", ["x", "s"], ["y"])]
    swish = helper.make_function("local", "swish", ["x"], ["y"], body, opsets[:1])
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9, functions=[swish])
    content = b""
    for tensor in model.graph.initializer[:2]:
        tensor.data_location = TensorProto.EXTERNAL
        places = {"location": DATA, "offset": len(content), "length": len(tensor.raw_data)}
        content += tensor.raw_data
        tensor.ClearField("raw_data")
        for key, value in places.items():
            tensor.external_data.add(key=key, value=str(value))
    return {NAME: model.SerializeToString(deterministic=True), DATA: content}


_VALID = _valid()


def edited(edit: Callable[[onnx.ModelProto], object]) -> dict[str, bytes]:
    """The valid files with a change to the model."""
    model = onnx.ModelProto.FromString(_VALID[NAME])
    edit(model)
    return _VALID | {NAME: model.SerializeToString(deterministic=True)}


def append(model: onnx.ModelProto, *nodes: onnx.NodeProto) -> None:
    """Nodes of which the last one computes what the network is for: what an output does not need is not read."""
    model.graph.node.extend(nodes)
    model.graph.output[0].name = nodes[-1].output[0]


def placed(key: str, value: str) -> dict[str, bytes]:
    """With another place of the first weight in its file."""

    def edit(model: onnx.ModelProto) -> None:
        [entry] = [entry for entry in model.graph.initializer[0].external_data if entry.key == key]
        entry.value = value

    return edited(edit)


def spread(operator: str, *inputs: str, **more: Any) -> dict[str, bytes]:
    """With a node that makes much of little; inputs that begin with a digit are constants, "1,2" of integers."""

    def edit(model: onnx.ModelProto) -> None:
        for text in inputs:
            if text[:1].isdigit():
                kind = np.float32 if "." in text else np.int64
                values = np.array([kind(part) for part in text.split(",")], kind)
                values = values[0] if operator == "Range" else values  # which takes numbers and not lists of one
                model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), text))
        append(model, helper.make_node(operator, inputs, ["big"], "spread", **more))

    return edited(edit)


def repeated(operator: str, times: int, **more: Any) -> dict[str, bytes]:
    """With a chain of nodes, each of which joins the one before with itself."""

    def edit(model: onnx.ModelProto) -> None:
        for level in range(times):
            inputs = [f"level{level}" if level else "two"] * 2
            append(model, helper.make_node(operator, inputs, [f"level{level + 1}"], **more))

    return edited(edit)


def _size_from_pixels(model: onnx.ModelProto) -> None:
    append(
        model,
        helper.make_node("Cast", ["descriptors"], ["pixels"], to=TensorProto.INT64),
        helper.make_node("Slice", ["pixels", "axis", "axis"], ["read"]),
        helper.make_node("Tile", ["four", "read"], ["big"]),
    )


def calling(*calls: str) -> dict[str, bytes]:
    """With functions f0, f1 … that call others twice, by name."""

    def edit(model: onnx.ModelProto) -> None:
        for number, name in enumerate(calls):
            domain = "local" if name.startswith(("f", "swish")) else ""
            body = [
                helper.make_node(name, ["x"], ["s"], domain=domain),
                helper.make_node(name, ["s"], ["y"], domain=domain),
            ]
            imports = [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]
            model.functions.append(helper.make_function("local", f"f{number}", ["x"], ["y"], body, imports))
        model.graph.node[1].op_type = f"f{len(calls) - 1}"

    return edited(edit)


_BIG = ("1048576,1048576", "1,4611686018427387904", "16777216", "100000,100000", "0,9223372036854775807")
SPECIMENS: dict[str, Files] = {
    "sound": _VALID,
    "no_such_file": {NAME: _VALID[NAME]},
    "weights_in_passwd": placed("location", "/etc/passwd"),
    "weights_above": placed("location", "../model.onnx.data"),
    "weights_in_the_model": placed("location", "."),
    "weights_on_the_net": placed("location", "http://example.invalid/weights"),
    "weights_behind_the_end": placed("offset", "9223372036854775807"),
    "weights_before_the_start": placed("offset", "-16"),
    "weights_of_another_size": placed("length", "12"),
    "weights_in_the_place_of_others": placed("offset", "400"),
    "expand": spread("Expand", "d", "1048576,4,1048576,1"),
    "tile": spread("Tile", "four", "1099511627776"),
    "constant_of_shape": spread("ConstantOfShape", "1048576,1048576"),
    "range": spread("Range", "0", "9223372036854775807", "1"),
    "random_numbers": spread("RandomNormal", shape=[2**20, 2**20]),
    "resize": spread("Resize", "c", "", "1.,1.,100000.,100000."),
    "padding": spread("Pad", "c", "0,0,0,0,0,0,1048576,1048576"),
    "joining_itself": repeated("Concat", 40, axis=0),
    "size_of_pixels": spread("NonZero", "c"),
    "size_from_pixels": edited(_size_from_pixels),
    "python": spread("PyOp", "c", domain="ai.onnx.contrib"),
    "runtime": spread("Gelu", "c", domain="com.microsoft"),
    "functions_call_themselves": calling("f0"),
    "functions_in_a_circle": calling("f1", "f0"),
    "functions_doubling": calling("swish", *(f"f{number}" for number in range(30))),
    "function_missing": calling("swish", "f9"),
    "sound_functions": calling("swish", "f0"),
    "sound_with_what_no_output_needs": edited(
        lambda model: model.graph.node.append(helper.make_node("NonZero", ["c"], ["unneeded"]))
    ),
    "old": edited(lambda model: setattr(model.opset_import[0], "version", 7)),
    "no_opset": edited(lambda model: model.opset_import.pop(0)),
}


@st.composite
def _hostile(draw: st.DrawFn) -> Files:
    """What asks for much, several times, or looks for weights elsewhere."""
    kind = draw(st.sampled_from(("spread", "repeated", "placed", "calling", "specimens")))
    if kind == "spread":
        operator = draw(
            st.sampled_from(("Expand", "Tile", "ConstantOfShape", "Range", "Pad", "Resize", "OneHot", "Reshape"))
        )
        return spread(operator, *draw(st.lists(st.sampled_from((*_BIG, "c", "d", "flat", "shape", "")), max_size=4)))
    if kind == "repeated":
        return repeated(draw(st.sampled_from(("Add", "Concat", "Tile", "Einsum"))), draw(st.sampled_from((3, 30, 300))))
    if kind == "placed":
        key = draw(st.sampled_from(("location", "offset", "length")))
        return placed(key, draw(st.sampled_from((DATA, NAME, "", "x", "/", "0", "1", "-1", "9" * 30, "²", "a" * 9000))))
    if kind == "calling":
        return calling(
            *draw(st.lists(st.sampled_from(("swish", "f0", "f1", "f2", "Relu", "x")), min_size=1, max_size=5))
        )
    return draw(st.sampled_from(sorted(SPECIMENS.items())))[1]


@st.composite
def _damaged(draw: st.DrawFn) -> Files:
    names = ("a", "b", "flat", "images")
    model = st.one_of(damaged(_VALID[NAME]), changed(onnx.ModelProto, _VALID[NAME], names))
    return _VALID | {NAME: draw(model)}


def _read(folder: Path) -> None:
    foreign_files(folder / NAME)
    model = read_foreign_onnx(folder / NAME, SIDE)
    # As the export does next: constants are computed, and one image goes through.
    with contextlib.suppress(ExportError):
        onnx_runtime.run(onnx_runtime.session(model), np.zeros((1, 3, SIDE, SIDE), np.float32))
    with contextlib.suppress(
        ValueError, RuntimeError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError
    ):
        onnxsim.simplify(model)
    with contextlib.suppress(ExportError):
        from_onnx(folder / NAME, PreprocessSpec(SIDE), "network")


READER = Reader("ONNX file from elsewhere", st.one_of(_damaged(), _hostile()), _read, place="exported")
