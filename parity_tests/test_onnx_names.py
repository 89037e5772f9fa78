"""What one sees in an exported ONNX file: the checkpoint's names, from both frameworks, and its provenance."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest

from export.exporters import INPUT, OUTPUT
from parity_tests.small_models import FAMILIES, exported, in_normal_form, small_checkpoint
from zoo.specs import ModelSpec

MEMBERS = ["resnet18_vd", "resnest50", "res2net50", "seresnet50"]


def convolutions(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == "Conv"]


@pytest.mark.parametrize("name", MEMBERS)
def test_convolutions_are_called_as_in_the_checkpoint_from_both_frameworks(name):
    parameters = small_checkpoint(FAMILIES[name]).weights
    modules = {parameter.removesuffix(".weight") for parameter, value in parameters.items() if value.ndim == 4}
    for framework in ("torch", "paddle"):
        nodes = convolutions(exported(FAMILIES[name], framework))
        assert {node.name for node in nodes} == {f"{module}/Conv" for module in modules}, framework
        assert [node.output[0] for node in nodes] == [node.name for node in nodes]
        for node in nodes:
            assert node.input[1] == node.name.replace("/Conv", ".weight")
            assert len(node.input) == 2 or node.input[2] == node.name.replace("/Conv", ".bias")


@pytest.mark.parametrize("framework", ["torch", "paddle"])
@pytest.mark.parametrize("form", [exported, in_normal_form])
def test_every_name_is_one_and_none_is_an_exporters_own(framework, form):
    graph = form(FAMILIES["resnest50"], framework).graph
    names = [node.name for node in graph.node]
    tensors = [name for node in graph.node for name in node.output] + [tensor.name for tensor in graph.initializer]
    assert len(set(names)) == len(names)
    assert len(set(tensors)) == len(tensors)
    assert all(names)
    for name in [*names, *tensors]:
        assert not any(mark in name for mark in ("::", "p2o", "auto.", "helper.", "_output_0", "batch_norm2d_")), name
    in_layers = [name for name in names if name.startswith(("backbone.", "pool", "neck"))]
    assert len(in_layers) > 0.9 * len([name for name in names if not name.startswith(("Identity", "Squeeze"))])


@pytest.mark.parametrize("framework", ["torch", "paddle"])
@pytest.mark.parametrize("form", [exported, in_normal_form])
def test_the_file_is_of_use_by_itself(framework, form):
    """The file is valid, has one input of dynamic size, and its metadata describes it."""
    name = FAMILIES["resnest50"]
    model = form(name, framework)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == [INPUT]
    assert [value.name for value in session.get_outputs()] == [OUTPUT]
    for shape in [(1, 3, 64, 64), (3, 3, 33, 97)]:
        [descriptors] = session.run(None, {INPUT: np.zeros(shape, np.float32)})
        assert descriptors.shape == (shape[0], 64)
    metadata = session.get_modelmeta().custom_metadata_map
    assert ModelSpec.from_dict(json.loads(metadata["spec"])) == small_checkpoint(name).spec
    assert len(metadata["checkpoint_sha256"]) == 64
    packages = {"torch": {"torch"}, "paddle": {"paddlepaddle", "paddle2onnx"}}[framework]
    assert json.loads(metadata["versions"]).keys() == packages | {"landmark-zoo", "onnx"}
