"""Specs are read strictly, and a round trip through JSON keeps them."""

import json
import math

import pytest

from zoo.errors import SpecError
from zoo.specs import HeadSpec, ModelSpec
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
