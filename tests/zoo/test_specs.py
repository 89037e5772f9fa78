"""Specs are read strictly, and a round trip through JSON keeps them."""

import dataclasses
import json
import math

import pytest

from zoo.errors import SpecError
from zoo.manifest import Manifest, Source, read_manifest, write_manifest
from zoo.specs import HeadSpec, ImportedSpec, ModelSpec, PreprocessSpec, read_spec
from zoo.variants import SPECS, get_spec


def test_every_spec_survives_json():
    assert [n for n, s in SPECS.items() if ModelSpec.from_dict(json.loads(json.dumps(s.to_dict()))) != s] == []


def test_an_unknown_model_names_the_nearest():
    with pytest.raises(SpecError, match="Did you mean resnest50"):
        get_spec("resnest5O")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("backbone", "radix"), "2", "spec.backbone.radix: expected int"),
        (("backbone", "radix"), True, "expected int"),
        (("backbone", "depths"), [1, 2], "expected 4 values"),
        (("head", "pool"), "mean", "expected one of 'gem', 'avg'"),
        (("preprocess", "size"), 16, "size: expected int >= 32"),
        (("head", "gem_p"), math.inf, "expected a finite number"),
        (("head", "gem_p"), -3.0, "head.gem_p: expected float > 0"),
        (("preprocess", "std"), [0.2, 0.0, 0.2], r"preprocess.std\[1\]: expected float > 0"),
        (("backbone", "radixes"), 2, r"unknown key 'radixes' \(did you mean 'radix'\?\)"),
    ],
)
def test_a_spec_is_read_strictly(place, value, message):
    values = SPECS["resnest50"].to_dict()
    values[place[0]][place[1]] = value
    with pytest.raises(SpecError, match=message):
        ModelSpec.from_dict(values)


def test_without_a_neck_the_embedding_is_the_features():
    with pytest.raises(SpecError, match="2048 long"):
        ModelSpec("odd", SPECS["resnet50"].backbone, HeadSpec(neck="none"))


IMPORTED = ImportedSpec("efficientnet_b0.ra_in1k", PreprocessSpec(96, channels="bgr", resize="bilinear"), 1280)


@pytest.mark.parametrize("spec", [SPECS["resnest50"], IMPORTED])
def test_a_manifest_keeps_the_spec_of_either_kind(spec, tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"")
    manifest = Manifest([Source(spec, "0" * 64, "onnx", {}, {})])
    write_manifest(tmp_path, manifest)
    read = read_manifest(tmp_path)
    assert read is not None and read.sources == manifest.sources and read.inputs == manifest.inputs
    assert read_spec(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"name": "a|b"}, "letters, digits"),
        ({"name": ""}, "letters, digits"),
        ({"embedding_size": 0}, "embedding_size: expected int >= 1"),
        ({"backbone": {}}, "unknown key 'backbone'"),
        ({"preprocess": {"size": 8}}, "preprocess.size: expected int >= 32"),
    ],
)
def test_an_imported_spec_is_read_strictly(changed, message):
    with pytest.raises(SpecError, match=message):
        read_spec(IMPORTED.to_dict() | changed)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ({"neck": "bn"}, "2048 long"),
        ({"neck": "bn", "embedding_size": 2048, "neck_bias": True}, "belong to a neck with a linear layer"),
        ({"neck": "none", "embedding_size": 2048, "whitening_size": 9}, "belong to a neck with a linear layer"),
        ({"neck": "none", "embedding_size": 2048, "l2_before_neck": True}, "l2_before_neck needs a neck"),
    ],
)
def test_heads_that_do_not_exist(head, message):
    with pytest.raises(SpecError, match=message):
        ModelSpec("odd", SPECS["resnet50"].backbone, HeadSpec(**head))


def test_strides_are_between_the_layers_at_their_begin_or_end():
    def strides(name, **options):
        backbone = dataclasses.replace(SPECS[name].backbone, depths=(2, 1, 2, 2), **options)
        return [
            [backbone.stride(layer, index) for index in range(backbone.depths[layer - 1])] for layer in (1, 2, 3, 4)
        ]

    assert strides("resnet50") == strides("resnetv2_50") == [[1, 1], [2], [2, 1], [2, 1]]
    assert strides("resnet50", last_stride=1) == [[1, 1], [2], [2, 1], [1, 1]]
    assert strides("resnet50_v2") == [[1, 2], [2], [1, 2], [1, 1]]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet18", {"stride_in_first": True}, "stride_in_first needs block 'bottleneck'"),
        ("resnet50", {"stride_at_end": True}, "need block 'preactivation', found 'bottleneck'"),
        ("resnet50", {"convolution_bias": True}, "need block 'preactivation', found 'bottleneck'"),
        ("resnetv2_50", {"stem": "deep"}, "needs stem 'conv7x7' and shortcut 'conv'"),
        ("resnetv2_50", {"ibn_a": True}, "IBN-a belong to basic blocks"),
    ],
)
def test_options_that_belong_to_other_blocks(name, options, message):
    spec = SPECS[name]
    with pytest.raises(SpecError, match=message):
        dataclasses.replace(spec, backbone=dataclasses.replace(spec.backbone, **options))
