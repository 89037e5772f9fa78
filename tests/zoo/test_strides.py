"""Strides, which no tensor states: what an import says that it assumed, and what a file's configuration states."""

import dataclasses

import pytest
from safetensors.numpy import save_file

from zoo.import_weights import import_weights
from zoo.published.names import Naming
from zoo.published.strides import conflicting_stride, convolution_stride, stride_twin
from zoo.specs import ModelSpec
from zoo.variants import VARIANTS, get_spec
from zoo.weights import initial_weights, parameter_shapes


def small(name: str) -> ModelSpec:
    spec = get_spec(name)
    backbone = dataclasses.replace(spec.backbone, depths=(1, 1, 1, 1), planes=(4, 4, 4, 4), stem_channels=4)
    return dataclasses.replace(spec, backbone=backbone).headless()


@pytest.mark.parametrize(
    ("model", "place", "other"),
    [("resnet50", "3×3", "resnet50_v1"), ("resnet101_v1", "first 1×1", "resnet101"), ("resnet18", None, None)],
)
def test_an_import_says_which_stride_it_assumed(tmp_path, capsys, model, place, other):
    spec = small(model)
    tensors = {name.removeprefix("backbone."): value for name, value in initial_weights(spec, (), seed=2).items()}
    save_file(tensors, tmp_path / "a.safetensors")
    checkpoint = import_weights(tmp_path / "a.safetensors", spec, headless=True)
    said = capsys.readouterr().err
    assert ("the stride of a block" in said) == (place is not None)
    if place is not None:
        assert f"as --model {model} has it, that the stride of a block is in its {place} convolution" in said
        assert "(no tensor tells;" in said and f"pass --model {other})" in said and "warning" not in said
        assert checkpoint.provenance["assumed"].startswith(f"the stride of a block is in its {place} convolution")


def test_every_variant_with_a_twin_names_it():
    """Where a stride in the other place makes another variant of the same tensors, an import of either says so."""
    for name, row in VARIANTS.items():
        twins = [
            other
            for other, candidate in VARIANTS.items()
            if candidate.backbone.stride_in_first != row.backbone.stride_in_first
            and parameter_shapes(get_spec(other).headless()) == parameter_shapes(get_spec(name).headless())
        ]
        assert twins == ([] if stride_twin(name) is None else [stride_twin(name)]), name


NAMES = {
    "conv3_block1_2_conv.weight": "backbone.layer2.0.conv2.weight",
    "conv3_block1_2_conv.bias": "backbone.layer2.0.conv2.bias",
    "head.weight": "neck.linear.weight",
}


@pytest.mark.parametrize(
    ("stated", "agrees"),
    [
        ([2, 2], True),
        (2, True),
        ([1, 1], False),
        ([2, 1], False),
        (True, False),
        ({"a": []}, False),
    ],
)
def test_a_stated_stride_is_compared_with_the_models(stated, agrees):
    reason = conflicting_stride({"conv3_block1_2_conv": stated}, Naming("", NAMES, []), get_spec("resnet50").backbone)
    assert (reason is None) == agrees
    assert agrees or f"strides of {stated} for conv3_block1_2_conv, and the model has 2" in reason


def test_only_strides_of_the_backbone_matter():
    stated = {"head": [3, 1], "own": None, "conv3_block1_2_conv": [2, 2]}
    assert conflicting_stride(stated, Naming("", NAMES, ["own.weight"]), get_spec("resnet50").backbone) is None


@pytest.mark.parametrize(
    ("model", "module", "stride"),
    [
        ("resnet50_v1", "conv1", 2),
        ("resnet50_v1", "layer2.0.conv1", 2),
        ("resnet50_v1", "layer2.0.conv2", 1),
        ("resnet50_v1", "layer2.0.downsample.0", 2),
        ("resnet50_v2", "layer2.0.downsample", 1),
        ("resnet50_v2", "layer1.2.conv2", 2),
        ("resnet50", "layer2.0.conv2", 2),
    ],
)
def test_strides_of_convolutions(model, module, stride):
    assert convolution_stride(module, get_spec(model).backbone) == stride
