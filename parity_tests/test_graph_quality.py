"""The network in a SavedModel is exactly its normal form, in the patterns that TensorFlow's optimiser fuses."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from export.saved_model_file import read_saved_model
from export.storage import Storage
from export.writer.convert import save_normal_form
from export.writer.graph import PIXELS, SMALL, node_name, tensorflow_graph
from export.writer.member import FUNCTION, member_from_saved_model
from parity_tests.small_models import FAMILIES, SMALL_SPECS, in_normal_form
from zoo.specs import PreprocessSpec

HERE = Path(__file__).resolve().parent
MEMBERS = [
    *(("resnet18", "torch"), ("resnet18", "paddle"), ("resnest50", "torch"), ("resnest50_fast_4s2x40d", "paddle")),
    *(("resnext50_32x4d", "torch"), ("res2net50", "torch"), ("seresnet50", "torch"), ("resnet18_ibn_a", "torch")),
    *(("resnet18_vd_paddleclas", "torch"), ("average_and_gem_pool", "torch"), ("neck_bn_bgr", "torch")),
]
STORED = {"variables": {"weights": "variables"}, "static": {"static": True}}
"""Options of resnet18's other SavedModels; in the tests each takes the place of a framework."""
OPERATORS = {
    **{"Add": "AddV2", "AveragePool": "AvgPool", "Clip": "Maximum", "Concat": "ConcatV2", "Conv": "Conv2D"},
    **{"Div": "RealDiv", "ReduceMax": "Max", "ReduceMean": "Mean", "ReduceSum": "Sum", "Split": "SplitV"},
}
"""TensorFlow's names for operators of the normal form, if they differ."""
CONVOLUTIONS = {"Conv2D", "_FusedConv2D", "_MklNativeConv2D", "_MklNativeFusedConv2D"}
"""Names in TensorFlow 2.2, and in the current TensorFlow with oneDNN."""


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict[tuple[str, str], Path]:
    """Each network's SavedModel, and resnet18's with other storage options."""
    made = {}
    for name, framework in MEMBERS:
        folder = tmp_path_factory.mktemp(f"{name}_{framework}")
        onnx.save(normal(name, framework), folder / "normal_form.onnx")
        save_normal_form(folder / "normal_form.onnx", folder / "saved_model")
        made[name, framework] = folder / "saved_model"
    folder = made["resnet18", "torch"].parent
    for way, options in STORED.items():
        save_normal_form(folder / "normal_form.onnx", folder / way, Storage(**options))
    return made | {("resnet18", way): folder / way for way in STORED}


def normal(name: str, framework: str) -> onnx.ModelProto:
    return in_normal_form(FAMILIES.get(name, name), "torch" if framework in STORED else framework)


def nodes_of(saved_model: Path) -> list:
    """The nodes of its one network's function."""
    functions = read_saved_model(saved_model).meta_graphs[0].graph_def.library.function
    (function,) = [function for function in functions if FUNCTION in function.signature.name]
    return list(function.node_def)


def producer(name: str) -> str:
    """The node of an input's name, which in functions is <node>:<output>:<number>."""
    return name.removeprefix("^").partition(":")[0]


def convolutions(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == "Conv"]


@pytest.mark.parametrize(("name", "framework"), MEMBERS)
def test_a_network_has_the_operators_of_its_normal_form_and_no_other(name, framework, written):
    model = normal(name, framework)
    expected = Counter(OPERATORS.get(node.op_type, node.op_type) for node in model.graph.node if node.op_type != "Max")
    expected["BiasAdd"] = sum(len(node.input) == 3 for node in convolutions(model))
    for node in model.graph.node:
        attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        expected["PadV2"] += node.op_type == "MaxPool" and any(attributes.get("pads", ()))
        expected["Maximum"] += len(node.input) - 1 if node.op_type == "Max" else 0  # takes two maps at a time
    expected += Counter(RealDiv=2, Sub=1)  # the normalisation of pixels
    expected["ReverseV2"] = int(SMALL_SPECS[FAMILIES.get(name, name)].preprocess.channels == "bgr")
    found = Counter(node.op for node in nodes_of(written[name, framework]))
    assert found.pop("Identity") == 1, "the function's own output"
    assert found.pop("NoOp", 0) == 0
    del found["Const"]
    assert found == +expected
    assert not {"Transpose", "Reshape", "Shape", "StridedSlice", "FusedBatchNormV3", "Cast", "MatMul"} & set(found)


@pytest.mark.parametrize(("name", "framework"), MEMBERS)
def test_each_convolution_has_its_padding_and_its_bias_directly_at_it(name, framework, written):
    nodes = nodes_of(written[name, framework])
    readers: dict[str, list[str]] = {}
    for node in nodes:
        for source in map(producer, node.input):
            readers.setdefault(source, []).append(node.op)
    operators = {node.name: node.op for node in nodes}
    found = {node.name: node for node in nodes if node.op == "Conv2D"}
    assert list(found) == [node_name(node.name) for node in convolutions(normal(name, framework))]
    for node in convolutions(normal(name, framework)):
        convolution = found[node_name(node.name)]
        if len(node.input) == 3:
            assert readers[convolution.name] == ["BiasAdd"], convolution.name
        assert operators.get(producer(convolution.input[0])) not in ("Pad", "PadV2", "MirrorPad"), convolution.name
        attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        pads = attributes.get("pads", [0, 0, 0, 0])
        if attributes.get("auto_pad") == b"SAME_UPPER":
            assert convolution.attr["padding"].s == b"SAME"
        elif any(pads):
            top, left, bottom, right = pads
            explicit = list(convolution.attr["explicit_paddings"].list.i)
            assert (convolution.attr["padding"].s, explicit) == (b"EXPLICIT", [0, 0, top, bottom, left, right, 0, 0])
        else:
            assert convolution.attr["padding"].s == b"VALID"
        assert convolution.attr["data_format"].s in (b"", b"NHWC")


@pytest.mark.parametrize(("name", "framework"), MEMBERS)
def test_nodes_are_called_as_in_the_onnx_file(name, framework, written):
    ours = {node.name: node.op for node in nodes_of(written[name, framework])}
    for node in normal(name, framework).graph.node:
        if node.op_type != "Max":  # TensorFlow's Maximum takes two maps, so the greatest of four needs three nodes
            assert ours[node_name(node.name)] == OPERATORS.get(node.op_type, node.op_type)


def test_a_name_that_tensorflow_does_not_take_is_cleaned():
    assert node_name("/backbone/conv1/Conv") == "backbone/conv1/Conv"
    assert node_name("backbone.layer1.0.conv2.fc1/Conv") == "backbone.layer1.0.conv2.fc1/Conv"
    assert node_name("p2o.Conv@1: 3") == "p2o.Conv_1__3"
    assert node_name("_hidden") == "node_hidden"


@pytest.mark.parametrize(("name", "framework"), MEMBERS)
def test_no_weight_is_stored_twice(name, framework, written):
    network = member_from_saved_model(written[name, framework])
    values = [(array.dtype.str, array.shape, array.tobytes()) for array in network.graph.weights.values()]
    assert len(values) == len(set(values))
    model = normal(name, framework)
    kernels = {node.input[1] for node in convolutions(model)}
    arrays = [onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name in kernels]
    turned = {np.ascontiguousarray(array.transpose(2, 3, 1, 0)).tobytes() for array in arrays if array.size > SMALL}
    assert turned <= {content for _, _, content in values}
    stored = sum(len(content) for _, _, content in values)
    size = written[name, framework].joinpath("saved_model.pb").stat().st_size
    assert stored < size < stored + 1000 * len(model.graph.node)


def test_weights_that_are_equal_are_one_node():
    """Two convolutions with the same weights, and a third with other weights of the same shape."""
    random = np.random.default_rng(3)
    shared, other = (random.normal(size=(3, 3, 3, 3)).astype(np.float32) for _ in range(2))
    values = {"a.weight": shared, "b.weight": shared.copy(), "c.weight": other}
    float32 = onnx.TensorProto.FLOAT
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            [
                onnx.helper.make_node("Conv", [source, f"{name}.weight"], [name], name, auto_pad="SAME_UPPER")
                for source, name in (("images", "a"), ("a", "b"), ("b", "c"))
            ],
            "three",
            [onnx.helper.make_tensor_value_info("images", float32, [None, 3, None, None])],
            [onnx.helper.make_tensor_value_info("c", float32, [None, 3, None, None])],
            [onnx.numpy_helper.from_array(array, name) for name, array in values.items()],
        )
    )
    network = tensorflow_graph(model, PreprocessSpec())
    assert list(network.weights) == ["a.weight", "c.weight"]
    np.testing.assert_array_equal(network.weights["a.weight"], shared.transpose(2, 3, 1, 0))
    filters = {node.name: node.input[1] for node in network.graph_def.node if node.op == "Conv2D"}
    assert filters == {"a": "a.weight", "b": "a.weight", "c": "c.weight"}
    placeholders = {node.name for node in network.graph_def.node if node.op == "Placeholder"}
    assert placeholders == {PIXELS, *network.weights}
    assert all(array.size > SMALL for array in network.weights.values())


@pytest.fixture(scope="module", params=["today", "TensorFlow 2.2"])
def ran(request, written, tmp_path_factory) -> dict[str, dict]:
    """{SavedModel: {node: what ran}} in each TensorFlow."""
    python = sys.executable if request.param == "today" else request.getfixturevalue("tf22_python")
    out = tmp_path_factory.mktemp("ran") / "ran.json"
    command = [str(python), "-I", HERE / "fusion_worker.py", out, *written.values()]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(out.read_text(encoding="utf-8"))


@pytest.mark.parametrize(("name", "framework"), [*MEMBERS, *(("resnet18", way) for way in STORED)])
def test_a_convolution_its_bias_and_its_relu_run_as_one_kernel(name, framework, written, ran):
    model, nodes = normal(name, framework), ran[str(written[name, framework])]
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    kernels = {key: node["fused"] for key, node in nodes.items() if node["op"] in CONVOLUTIONS}
    assert len(kernels) == len(convolutions(model))
    assert not [key for key, node in nodes.items() if node["op"] in ("BiasAdd", "Transpose", "Reshape", "_MklToTf")]
    with_relu = 0
    for node in convolutions(model):
        label, behind = node_name(node.name), readers(model, node)
        if len(node.input) < 3 or (framework != "variables" and not values[node.input[2]].any()):
            assert kernels[label] == [], label  # TensorFlow skips additions of constant zeros
        elif [reader.op_type for reader in behind] == ["Relu"]:
            # TensorFlow names a kernel after the last node in it.
            assert kernels[node_name(behind[0].name)] == ["BiasAdd", "Relu"], label
            with_relu += 1
        else:
            # The current TensorFlow fuses a residual sum into one of the two kernels before it if it knows both maps' sizes.
            sums = [add for add in behind if add.op_type == "Add"]
            last = [*sums, *(relu for add in sums for relu in readers(model, add))]
            places = [f"{label}/BiasAdd", *(node_name(reader.name) for reader in last)]
            fused = next((kernels[place] for place in places if place in kernels), None)
            assert fused in (["BiasAdd"], ["BiasAdd", "Add"], ["BiasAdd", "Add", "Relu"]), label
    assert with_relu


def readers(model: onnx.ModelProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """The nodes that read a node's first output."""
    return [reader for reader in model.graph.node if node.output[0] in reader.input]


def test_with_static_sizes_the_current_tensorflow_fuses_every_residual_sum_as_well(written, ran):
    sums = [node for node in normal("resnet18", "static").graph.node if node.op_type == "Add"]
    nodes = ran[str(written["resnet18", "static"])]
    fused = [node for node in nodes.values() if node["fused"] == ["BiasAdd", "Add", "Relu"]]
    if any(node["op"].startswith("_Mkl") for node in nodes.values()):
        assert len(fused) == len(sums)
        assert not [node for node in nodes.values() if node["op"] == "AddV2"]
    else:  # TensorFlow 2.2 has no such kernel
        assert fused == []
