"""Specs and recipes: strict reading, and the schedule that comes of it."""

import itertools
import json
import math
from pathlib import Path

import pytest

from training.recipes import read_recipe, schedule
from zoo.errors import RecipeError, SpecError
from zoo.specs import HeadSpec, ModelSpec
from zoo.variants import SPECS, get_spec

RECIPES = sorted((Path(__file__).resolve().parents[2] / "recipes").glob("*.yaml"))
MINIMAL = "models: [resnet18]\nbatch_size: 8\nstages: [{epochs: 2, resolution: 64, margin: 0.1, learning_rate: 0.1}]\n"


@pytest.mark.parametrize("name", SPECS)
def test_a_spec_survives_json(name):
    assert ModelSpec.from_dict(json.loads(json.dumps(SPECS[name].to_dict()))) == SPECS[name]


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
        (("preprocess", "size"), 16, "below 32"),
        (("head", "gem_p"), math.inf, "expected a finite number"),
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


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipes_of_the_project_rise(path):
    stages = read_recipe(path).stages
    assert len(stages) >= 2
    for before, after in itertools.pairwise(stages):
        assert after.resolution > before.resolution
        assert after.margin > before.margin


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MINIMAL + "optimizer: adam\n", "unknown key 'optimizer'"),
        (MINIMAL.replace("batch_size: 8\n", ""), "'batch_size' is missing"),
        (MINIMAL.replace("resnet18", "resnet19"), "there is no model 'resnet19'"),
        (MINIMAL.replace("margin: 0.1", "margin: 2"), "margin from 0 to below"),
        (
            MINIMAL + "head: {neck: none, embedding_size: 64}\n",
            "without a neck the embedding is the pooled features, 512 long",
        ),
        (MINIMAL + "loss: {kind: cos_face, sub_centers: 3}\n", "only the arc_face losses have more than 1"),
        (MINIMAL.replace("epochs: 2", "epochs: two"), "expected int"),
        ("models: [", "while parsing"),
        ("", "expected a mapping"),
    ],
)
def test_a_recipe_is_read_strictly(tmp_path, text, message):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message):
        read_recipe(path)
    with pytest.raises(RecipeError, match="does not exist"):
        read_recipe(tmp_path / "none.yaml")


def test_schedule(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        MINIMAL.replace("}]", ", warmup_epochs: 0.5}, {epochs: 1, resolution: 96, margin: 0.2, learning_rate: 0.01}]")
    )
    steps = schedule(read_recipe(path), batches_per_epoch=4)
    assert [step.number for step in steps] == list(range(12))
    assert [step.epoch for step in steps] == [0] * 4 + [1] * 4 + [2] * 4
    assert [step.batch for step in steps] == [0, 1, 2, 3] * 3
    assert [step.resolution for step in steps] == [64] * 8 + [96] * 4
    assert [step.learning_rate for step in steps[:3]] == pytest.approx([0.05, 0.1, 0.1])
    rates = [step.learning_rate for step in steps]
    assert all(before > after for before, after in itertools.pairwise(rates[2:8]))
    assert rates[8] == pytest.approx(0.01)
