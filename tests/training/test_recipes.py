"""Recipes are read strictly; the schedule of a recipe; the reference of all keys."""

import dataclasses
import itertools
from pathlib import Path

import pytest

from training.recipes import Augmentation, Recipe, Stage, read_recipe
from training.reference import reference
from training.schedule import Schedule
from zoo.errors import RecipeError
from zoo.specs import HeadSpec, LossSpec

RECIPES = sorted((Path(__file__).resolve().parents[2] / "recipes").glob("*.yaml"))
MINIMAL = "models: [resnet18]\nbatch_size: 8\nstages: [{epochs: 2, resolution: 64, margin: 0.1, learning_rate: 0.1}]\n"


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
        (MINIMAL + "optimizer: adam\n", "unknown key 'optimizer' \\(did you mean 'optimiser'"),
        (MINIMAL.replace("batch_size: 8\n", ""), "'batch_size' is missing"),
        (MINIMAL.replace("resnet18", "resnet19"), "there is no model 'resnet19'"),
        (MINIMAL.replace("margin: 0.1", "margin: 2"), r"recipe.stages\[0\].margin: expected float < 1.57"),
        (MINIMAL.replace("batch_size: 8", "batch_size: 0"), "recipe.batch_size: expected int >= 1"),
        (MINIMAL.replace("resolution: 64", "resolution: 0"), "resolution: expected int >= 32"),
        (MINIMAL.replace("epochs: 2", "epochs: 0"), "epochs: expected int >= 1"),
        (MINIMAL.replace("learning_rate: 0.1", "learning_rate: 0"), "learning_rate: expected float > 0"),
        (
            MINIMAL.replace("epochs: 2", "epochs: 2, warmup_epochs: 3"),
            r"stages\[0\].warmup_epochs: 3.* warm-up epochs, but the stage has only 2 epochs",
        ),
        (
            MINIMAL.replace("batch_size: 8", "batch_size: 65536").replace("resolution: 64", "resolution: 8192"),
            "pixels in a batch",
        ),
        (MINIMAL + "seed: 9223372036854775807\n", "recipe.seed: expected int <="),
        (MINIMAL + "momentum: 7\n", "recipe.momentum: expected float < 1"),
        (MINIMAL + "scale: -3\n", "recipe.scale: expected float > 0"),
        (MINIMAL + "weight_decay: -1\n", "weight_decay: expected float >= 0"),
        (MINIMAL + "gradient_clip: 0\n", "gradient_clip: expected float > 0"),
        (MINIMAL + "gradient_clip: .inf\n", "gradient_clip: expected a finite number"),
        (MINIMAL + "seed: -1\n", "seed: expected int >= 0"),
        (MINIMAL + "augmentation: {crop_area: [0.9, 0.5]}\n", "smaller share first"),
        (MINIMAL + "augmentation: {jitter: 1}\n", "jitter: expected float < 1"),
        (MINIMAL + "batch_size: 16\n", "the key 'batch_size' is given twice, the second time in line 4"),
        (MINIMAL + "head: {pool: gem, pool: avg}\n", "the key 'pool' is given twice"),
        (MINIMAL + "weight_decy: 0\n", "did you mean 'weight_decay'"),
        (MINIMAL + "head: {pool: mean}\n", "head.pool: expected one of 'gem', 'avg'"),
        ("models: !!python/object/apply:os.system [echo]\n", "line 1: the tag .*os.system is not supported"),
        (MINIMAL + "seed: !!int abc\n", "line 4: the tag .*int is not supported"),
        (MINIMAL + "seed: !!timestamp 2020\n", "the tag .*timestamp is not supported"),
        (MINIMAL + "augmentation: {flip: !!bool maybe}\n", "the tag .*bool is not supported"),
        (MINIMAL + "head: &a {}\nloss: *a\n", "line 5: the alias \\*a is not supported"),
        (MINIMAL + "---\nseed: 1\n", "expected a single document"),
        (MINIMAL + "? [a]\n: 1\n", "line 4: a key is a list or a mapping"),
        (MINIMAL + f"seed: {'9' * 5000}\n", "5,000 characters in one number"),
        (MINIMAL + "seed: 9223372036854775808\n", "seed: expected int"),
        (MINIMAL + "x: " + "[" * 5000 + "\n", "levels of nesting|nested too deeply"),
        (MINIMAL + "#" * (1 << 18), "characters, more than the limit"),
        (MINIMAL + "seed: \x00\n", "special characters are not allowed"),
        (MINIMAL + "\tseed: 1\n", "line 4, column 1"),
        (MINIMAL.replace("[resnet18]", "[resnet18, resnet18]"), "models: 'resnet18' is given twice"),
        (MINIMAL.replace("batch_size: 8", "batch_size: 1"), "BatchNorm needs at least 2 images"),
        (MINIMAL.replace("batch_size: 8", "batch_size: 100000000"), "batch_size: expected int <= 65536"),
        (MINIMAL.replace("epochs: 2", "epochs: 1000000000"), "epochs: expected int <= 65536"),
        (MINIMAL.replace("learning_rate: 0.1", "learning_rate: 1e30"), "learning_rate: expected float <= 100"),
        (MINIMAL.replace("batch_size: 8", "batch_size: yes"), "expected int"),
        (MINIMAL.replace("batch_size: 8", "batch_size: 1:30"), "expected int"),
        (
            MINIMAL + "head: {neck: none, embedding_size: 64}\n",
            "without a linear layer in the neck the embedding is the pooled features, 512 long",
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


def test_an_error_names_the_line_of_the_value(tmp_path):
    text = "models: [resnet18]\nbatch_size: 8\nstages:\n  - epochs: 2\n    resolution: 64\n    margin: 9\n    learning_rate: 0.1\n"
    path = tmp_path / "r.yaml"
    for wrong, line in (
        (text, 6),
        (text.replace("margin: 9", "margn: 0.1"), 4),
        (text.replace("9", "0.1").replace("8", "0"), 2),
        (text.replace("9", "0.1") + "    warmup_epochs: 3\n", 8),
        (text.replace("9", "0.1") + "head:\n  pool: gem\n  embedding_size: 0\n", 10),
    ):
        path.write_text(wrong, encoding="utf-8")
        with pytest.raises(RecipeError, match=rf"r\.yaml, line {line}: "):
            read_recipe(path)


def test_a_schedule_of_any_length_takes_no_time_or_memory():
    stages = [Stage(65536, 32, 0.1, 0.1), Stage(65536, 64, 0.2, 0.01, warmup_epochs=1)]
    steps = Schedule(Recipe(["resnet18"], stages, batch_size=2), batches_per_epoch=10**6)
    assert len(steps) == 2 * 65536 * 10**6
    first, last = steps[65536 * 10**6], steps[-1]
    assert (first.stage, first.epoch, first.batch, first.resolution) == (2, 65536, 0, 64)
    assert (last.number, last.epoch, last.batch) == (len(steps) - 1, 2 * 65536 - 1, 10**6 - 1)
    assert first.learning_rate == pytest.approx(0.01 / 10**6)
    with pytest.raises(IndexError):
        steps[len(steps)]


def test_schedule(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        MINIMAL.replace("}]", ", warmup_epochs: 0.5}, {epochs: 1, resolution: 96, margin: 0.2, learning_rate: 0.01}]")
    )
    steps = Schedule(read_recipe(path), batches_per_epoch=4)
    assert [step.number for step in steps] == list(range(12))
    assert [step.epoch for step in steps] == [0] * 4 + [1] * 4 + [2] * 4
    assert [step.batch for step in steps] == [0, 1, 2, 3] * 3
    assert [step.resolution for step in steps] == [64] * 8 + [96] * 4
    assert [step.learning_rate for step in steps[:3]] == pytest.approx([0.05, 0.1, 0.1])
    rates = [step.learning_rate for step in steps]
    assert all(before > after for before, after in itertools.pairwise(rates[2:8]))
    assert rates[8] == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("text", "value"), [("1e-4", 1e-4), ("1E-4", 1e-4), ("1.e-4", 1e-4), ("5e-1", 0.5), ("0", 0.0)]
)
def test_a_number_may_have_an_exponent_without_a_point(tmp_path, text, value):
    path = tmp_path / "recipe.yaml"
    path.write_text(MINIMAL + f"weight_decay: {text}\n")
    assert read_recipe(path).weight_decay == value


@pytest.mark.parametrize("kind", [Recipe, Stage, Augmentation, HeadSpec, LossSpec])
def test_the_reference_has_every_key(kind):
    rows = [line.split(" | ") for line in reference().splitlines() if line.startswith("| `")]
    for field in dataclasses.fields(kind):
        own = [row for row in rows if row[0] == f"| `{field.name}`"]
        assert own, field.name
        assert all(len(row) == 4 and len(row[3]) > 5 for row in own), field.name


def test_the_reference_states_ranges_and_defaults():
    text = reference()
    assert "| `momentum` | number, > 0, < 1 | `0.9` |" in text
    assert "| `batch_size` | integer, ≥ 1, ≤ 65536 | required |" in text


def test_clipping_can_be_switched_off(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(MINIMAL + "gradient_clip: null\n")
    assert read_recipe(path).gradient_clip is None
    path.write_text(MINIMAL + "gradient_clip: 0\n")
    with pytest.raises(RecipeError, match="gradient_clip: expected float > 0.0, or null"):
        read_recipe(path)


@pytest.mark.parametrize(("text", "value"), [("010", 10), ("+7", 7)])
def test_numbers_are_decimal(tmp_path, text, value):
    """YAML 1.1 reads 010 as 8."""
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + (MINIMAL + f"seed: {text}\n").replace("\n", "\r\n").encode())
    assert read_recipe(path).seed == value


def write_minimal(folder: Path) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(MINIMAL, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("change", "read", "value"),
    [
        ("stages.0.margin=0.35", lambda recipe: recipe.stages[0].margin, 0.35),
        ("augmentation.flip=false", lambda recipe: recipe.augmentation.flip, False),
        ("gradient_clip=null", lambda recipe: recipe.gradient_clip, None),
        ("models=[resnet34]", lambda recipe: recipe.models, ["resnet34"]),
        ("loss={kind: cos_face}", lambda recipe: recipe.loss.kind, "cos_face"),
        ("frozen=[backbone.layer1]", lambda recipe: recipe.frozen, ("backbone.layer1",)),
        ("validation.classes=0.1", lambda recipe: recipe.validation.classes, 0.1),
    ],
)
def test_a_value_is_replaced_for_one_run(tmp_path, change, read, value):
    assert read(read_recipe(write_minimal(tmp_path), [change])) == value
    assert read_recipe(write_minimal(tmp_path), [change]).digest != read_recipe(write_minimal(tmp_path)).digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("margin", "--set margin: expected KEY=VALUE"),
        ("=3", "expected KEY=VALUE"),
        ("stages.7.margin=1", "'7' leads nowhere"),
        ("stages.x=1", "'x' leads nowhere"),
        ("stages.0.margin.deep=1", "'margin' leads nowhere|'deep' leads nowhere"),
        ("stages.0.margn=0.3", "unknown key 'margn' .did you mean 'margin'"),
        ("stages.0.margin=9", r"stages\[0\]\.margin"),
        ("seed=[1", "--set seed=.1"),
        ("seed=*a", "--set seed"),
        ("frozen=[backbone.layer9]", "no tensor's name starts with 'backbone.layer9'"),
        ("accumulation=3", "cannot be computed in 3 equal parts"),
        ("stages.0.start=average", "there is no average"),
        ("stages.0.decay=step", "needs epochs to drop after"),
    ],
)
def test_a_change_that_means_nothing_is_refused(tmp_path, change, message):
    with pytest.raises(RecipeError, match=message):
        read_recipe(write_minimal(tmp_path), [change])


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ({"decay": "cosine"}, [0.1, 0.075, 0.025]),
        ({"decay": "polynomial"}, [0.1, 0.1 * 2 / 3, 0.1 / 3]),
        ({"decay": "polynomial", "power": 2.0}, [0.1, 0.1 * 4 / 9, 0.1 / 9]),
        ({"decay": "step", "drops": (1.0, 2.0), "drop": 0.5}, [0.1, 0.05, 0.025]),
        ({"decay": "step", "drops": (1.0,), "warmup_epochs": 1.0}, [0.1, 0.01, 0.01]),
    ],
)
def test_each_decay_of_the_learning_rate(stage, expected):
    recipe = Recipe(["resnet10_narrow"], [Stage(3, 32, 0.1, 0.1, **stage)], batch_size=2)
    assert [step.learning_rate for step in Schedule(recipe, 1)] == pytest.approx(expected)


def test_the_first_step_of_each_stage_is_marked():
    recipe = Recipe(["resnet10_narrow"], [Stage(2, 32, 0.1, 0.1), Stage(1, 48, 0.2, 0.1)], batch_size=2)
    assert [step.first for step in Schedule(recipe, 2)] == [True, False, False, False, True, False]
