"""SavedModels in a folder, read by the checker (`export.check`)."""

from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from export.check import check
from export.quiet_tensorflow import quiet_stderr
from tests.reliability.mutations import damaged
from tests.reliability.protobufs import changed
from tests.reliability.reader import Reader
from zoo.errors import ExportError

with quiet_stderr():
    from tensorflow.core.framework import types_pb2
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow.python.framework import tensor_util


def _node(nodes, name: str, op: str, inputs=(), **types: int):
    node = nodes.add(name=name, op=op)
    node.input.extend(inputs)
    for key, number in types.items():
        node.attr[key].type = number
    return node


def _valid():
    """A graph of TensorFlow 1's style: an image, a called function, constants, a signature."""
    model = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    meta = model.meta_graphs.add()
    meta.meta_info_def.tags.append("serve")
    meta.graph_def.versions.producer = 175
    nodes, float32, int32 = meta.graph_def.node, types_pb2.DT_FLOAT, types_pb2.DT_INT32
    image = _node(nodes, "input_image", "Placeholder", dtype=types_pb2.DT_UINT8)
    for size in (-1, -1, 3):
        image.attr["shape"].shape.dim.add(size=size)
    _node(nodes, "cast", "Cast", ["input_image"], SrcT=types_pb2.DT_UINT8, DstT=float32)
    for name, value in (("axes", np.array([0, 1], np.int32)), ("weight", np.ones(3, np.float32))):
        constant = _node(nodes, name, "Const", dtype=int32 if name == "axes" else float32)
        constant.attr["value"].tensor.CopyFrom(tensor_util.make_tensor_proto(value))
    _node(nodes, "mean", "Mean", ["cast", "axes"], T=float32, Tidx=int32)
    call = _node(nodes, "call", "PartitionedCall", ["mean", "weight"])
    call.attr["f"].func.name = "f"
    for key, count in (("Tin", 2), ("Tout", 1)):
        call.attr[key].list.type.extend([float32] * count)
    function = meta.graph_def.library.function.add()
    function.signature.name = "f"
    for name in ("a", "b"):
        function.signature.input_arg.add(name=name, type=float32)
    function.signature.output_arg.add(name="c", type=float32)
    _node(function.node_def, "product", "Mul", ["a", "b"], T=float32)
    function.ret["c"] = "product:z:0"
    signature = meta.signature_def["serving_default"]
    signature.inputs["input_image"].name, signature.inputs["input_image"].dtype = "input_image:0", types_pb2.DT_UINT8
    for size in (-1, -1, 3):
        signature.inputs["input_image"].tensor_shape.dim.add(size=size)
    signature.outputs["global_descriptor"].name, signature.outputs["global_descriptor"].dtype = "call:0", float32
    signature.outputs["global_descriptor"].tensor_shape.dim.add(size=3)
    return model


_MODEL = _valid().SerializeToString()


@st.composite
def _hostile(draw: st.DrawFn) -> bytes:
    """Functions that call themselves or each other many times, constants that claim terabytes, operators that run Python."""
    model = saved_model_pb2.SavedModel.FromString(_MODEL)
    graph = model.meta_graphs[0].graph_def
    function = graph.library.function[0]
    kind = draw(
        st.sampled_from(("self", "doubling", "chain", "constant", "axes", "op", "output", "loop", "branch", "many"))
    )
    if kind == "self":
        node = _node(function.node_def, "again", draw(st.sampled_from(("f", "PartitionedCall", "If"))), ["a", "b"])
        node.attr["f"].func.name = "f"
    elif kind in ("doubling", "chain"):
        for level in range(draw(st.sampled_from((26, 40, 3000 if kind == "chain" else 30)))):
            made = graph.library.function.add()
            made.CopyFrom(function)
            made.signature.name = f"g{level}"
            for copy in range(2 if kind == "doubling" else 1):
                made.node_def.add(name=f"n{copy}", op=f"g{level - 1}" if level else "f").input.extend(["a", "b"])
        graph.node.add(name="top", op=f"g{level}").input.extend(["mean", "weight"])
        model.meta_graphs[0].signature_def["serving_default"].outputs["global_descriptor"].name = "top:0"
    elif kind in ("constant", "axes"):
        shape = graph.node[draw(st.sampled_from((2, 3)))].attr["value"].tensor.tensor_shape
        del shape.dim[:]
        sizes = {
            "constant": ([2**40], [2**20] * 3, [-1], [2**62, 2**62], [0, 2**60], [10**9]),
            "axes": ([1] * 33, [1] * 300),
        }
        for size in draw(st.sampled_from(sizes[kind])):
            shape.dim.add(size=size)
    elif kind == "op":
        ops = (
            "EagerPyFunc",
            "PyFunc",
            "ReadFile",
            "WriteFile",
            "NoSuchOp",
            "Mean",
            "Reshape",
            "Fill",
            "Range",
            "TileV2",
            "",
        )
        graph.node[4].op = draw(st.sampled_from(ops))
    elif kind == "output":
        names = ("call:x", "call:99999999999999999999", "call:-1", "", ":", "none:0", "call:1", "f", "mean:0:0:0")
        model.meta_graphs[0].signature_def["serving_default"].outputs["global_descriptor"].name = draw(
            st.sampled_from(names)
        )
    elif kind == "loop":
        graph.node[1].input[0] = "mean"
    elif kind == "branch":
        node = _node(graph.node, "w", draw(st.sampled_from(("While", "If", "StatelessIf", "Case"))), ["mean", "weight"])
        for key in ("cond", "body", "then_branch", "else_branch"):
            node.attr[key].func.name = draw(st.sampled_from(("f", "none")))
        graph.node[5].input[0] = "w"
    else:
        for number in range(20_000):
            graph.node.add(name=f"n{number}", op="NoOp")
    return model.SerializeToString()


def _folder(content: bytes) -> dict[str, bytes]:
    return {"saved_model.pb": content}


_INDEX = st.one_of(st.binary(max_size=100), st.sampled_from((b"", b"\0" * 48, bytes.fromhex("57fb808b247547db") * 8)))


def _read(path: Path) -> None:
    report = check(path)
    assert isinstance(report.accepted, bool) and all(value >= 0 for value in report.gflop.values())
    for finding in report.findings:
        str(finding).encode()
    if not report.accepted:
        raise ExportError(str(next(finding for finding in report.findings if finding.rejects)))


READER = Reader(
    "SavedModel",
    st.one_of(
        damaged(_MODEL).map(_folder),
        changed(saved_model_pb2.SavedModel, _MODEL, ("mean", "call:0", "f", "weight", "product:z:0")).map(_folder),
        _hostile().map(_folder),
        st.tuples(_INDEX, st.binary(max_size=60)).map(
            lambda drawn: (
                _folder(_MODEL)
                | {"variables/variables.index": drawn[0], "variables/variables.data-00000-of-00001": drawn[1]}
            )
        ),
    ),
    _read,
    place="saved_model",
)
