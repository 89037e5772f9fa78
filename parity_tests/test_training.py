"""torch ↔ paddle in training: loss, every gradient, BatchNorm's statistics, and twenty steps of the real optimisers.

Each framework's own `Trainer` gets the same pictures and the same schedule: two stages, warm-up, a cosine, Nesterov's
momentum, weight decay and an active gradient clip. After the first step SGD's velocity is the gradient itself.
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import paddle
import pytest
import torch

from export.parity.probes import picture
from parity_tests.random_weights import random_checkpoint
from parity_tests.small_models import SMALL_SPECS, small
from training.recipes import LearningRates, Recipe, Stage
from training.schedule import Schedule
from zoo.checkpoint import Checkpoint
from zoo.weights import is_buffer

CLASSES, BATCH, SIZE = 6, 6, 48
RECIPE = Recipe(
    models=["resnet18"],
    stages=[Stage(2, SIZE, 0.1, 0.002, warmup_epochs=0.5), Stage(3, SIZE, 0.3, 0.001)],
    batch_size=BATCH,
    # Paddle's optimiser always keeps these two in float32, so they are numbers that float32 represents exactly.
    momentum=0.875,
    weight_decay=2**-11,
    gradient_clip=2.0,
)
STEPS = Schedule(RECIPE, batches_per_epoch=4)
BOUNDS = {
    np.float64: {"loss": 1e-12, "gradient": 1e-7, "one step": 1e-7, "twenty steps": 1e-6, "losses": 1e-6},
    np.float32: {"loss": 3e-5, "gradient": 0.1, "one step": 1e-5, "twenty steps": 0.03, "losses": 0.3},
}
"""Absolute for losses, relative to the largest value for tensors; three to ten times what was measured. In float64: 2e-14, 3e-8,
5e-9, 1e-7, 1e-8. These are due to Paddle, which keeps BatchNorm's momentum and the 1 / 9 of an average pooling's gradient in
float32. In float32: 1.1e-5 (of a loss of 14, in which PyTorch's channels-last convolutions of 101 layers are 7e-7 off), 3e-2, 4e-6,
9e-3, 1e-1, because a ReLU whose input is near 0 may be active in only one framework."""
FLOOR = {np.float64: 1e-6, np.float32: 1e-3}
"""A bias before BatchNorm has a gradient of only rounding: no tensor's scale counts as less than this share of the largest."""


class Run:
    """One framework's trainer in one precision, and its state at each step."""

    def __init__(self, framework: str, checkpoint: Checkpoint, precision: type, recipe: Recipe = RECIPE) -> None:
        train = importlib.import_module(f"{framework}_models.train")
        weights = {name: value.astype(precision) for name, value in checkpoint.weights.items()}
        self.trainer = train.Trainer(checkpoint.spec, CLASSES, recipe, weights)
        if framework == "torch":
            # Paddle keeps BatchNorm's epsilon and momentum in float32 even in a float64 network: relative error 2e-8.
            for module in self.trainer.model.modules():
                if hasattr(module, "eps"):
                    module.eps = float(np.float32(module.eps))
                    module.momentum = 1 - float(np.float32(1 - module.momentum))

    def weights(self) -> dict[str, np.ndarray]:
        """The current tensors of a checkpoint."""
        return self._kind("weights")

    def momentum(self) -> dict[str, np.ndarray]:
        """SGD's velocity."""
        return self._kind("momentum")

    def _kind(self, kind: str) -> dict[str, np.ndarray]:
        return {n.removeprefix(f"{kind}/"): v for n, v in self.trainer.tensors().items() if n.startswith(f"{kind}/")}

    def step(self, number: int) -> float:
        random = np.random.default_rng(number)
        images = np.stack([picture(random, SIZE, SIZE) for _ in range(BATCH)]).astype(np.uint8)
        measured = self.trainer.step(images, random.integers(0, CLASSES, BATCH), STEPS[number])
        return float(self.trainer.read([measured])[0, 0])


@contextmanager
def computing_in(precision: type) -> Iterator[None]:
    """The precision of both frameworks' networks, losses and optimisers."""
    torch.set_default_dtype(getattr(torch, precision.__name__))
    paddle.set_default_dtype(precision.__name__)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)
        paddle.set_default_dtype("float32")


def furthest(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], floor: float) -> tuple[float, str]:
    """The largest relative difference of any tensor, and the tensor's name."""
    assert ours.keys() == theirs.keys()
    largest = max(np.abs(value).max() for value in ours.values())
    return max(
        (float(np.abs(theirs[name] - value).max() / max(np.abs(value).max(), floor * largest)), name)
        for name, value in ours.items()
    )


def figures(runs: list[Run], floor: float) -> dict[str, tuple[float, str]]:
    """The differences of the two runs after one step and after twenty, and where they are largest."""
    losses = [[run.step(0) for run in runs]]
    found = {"gradient": furthest(*(run.momentum() for run in runs), floor)}
    found["one step"] = furthest(*(run.weights() for run in runs), floor)
    losses += [[run.step(number) for run in runs] for number in range(1, 20)]
    found["twenty steps"] = furthest(*(run.weights() for run in runs), floor)
    apart = np.abs(np.diff(np.array(losses), axis=1))
    return found | {"loss": (float(apart[0]), "the first"), "losses": (float(apart.max()), "any of twenty")}


@pytest.mark.parametrize("precision", [np.float64, np.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("name", SMALL_SPECS)
def test_twenty_steps(name, precision):
    checkpoint = random_checkpoint(SMALL_SPECS[name], seed=3, classes=CLASSES)
    with computing_in(precision):
        runs = [Run(framework, checkpoint, precision) for framework in ("torch", "paddle")]
        found = figures(runs, FLOOR[precision])
        weights, velocity = runs[0].weights(), runs[0].momentum()
    assert set(velocity) == {n for n in checkpoint.weights if not is_buffer(n)}
    assert furthest(checkpoint.weights, weights, FLOOR[precision])[0] > 0.1, (
        "the loss hardly changed: the comparison is meaningless"
    )
    assert not {what: figure for what, figure in found.items() if not figure[0] <= BOUNDS[precision][what]}


FEATURES = {
    "adamw": {"optimiser": "adamw", "weight_decay": 2**-6},
    "accumulation": {"accumulation": 3},
    "smoothing and negatives": {"label_smoothing": 0.125, "negatives": 0.5},
    "average": {"average": 0.875},
    "frozen": {"frozen": ("backbone.conv1", "backbone.bn1", "backbone.layer1")},
    "parts": {"learning_rates": LearningRates(backbone=0.25, head=1.0, classes=2.0)},
}


@pytest.mark.parametrize("feature", FEATURES)
def test_twenty_steps_with_each_feature_of_a_recipe(feature):
    checkpoint = random_checkpoint(small("resnet18"), seed=3, classes=CLASSES)
    recipe = replace(RECIPE, **FEATURES[feature])
    with computing_in(np.float64):
        runs = [Run(framework, checkpoint, np.float64, recipe) for framework in ("torch", "paddle")]
        plain = Run("torch", checkpoint, np.float64)
        found = figures(runs, FLOOR[np.float64])
        for number in range(20):
            plain.step(number)
        ours, theirs = (run.trainer.tensors() for run in runs)
    kept = {name for name in checkpoint.weights if name.startswith(recipe.frozen)} if recipe.frozen else set()
    assert all(np.array_equal(ours[f"weights/{name}"], checkpoint.weights[name]) for name in kept)
    assert not {what: figure for what, figure in found.items() if not figure[0] <= BOUNDS[np.float64][what]}
    assert furthest(ours, theirs, FLOOR[np.float64])[0] <= BOUNDS[np.float64]["twenty steps"]
    changed = furthest(plain.weights(), runs[0].weights(), FLOOR[np.float64])[0]
    assert (changed > 1e-3) == (feature != "average"), "the feature changes nothing"


@pytest.mark.parametrize("planted", ["statistics", "momentum", "decay"])
def test_a_planted_difference_is_seen(planted, monkeypatch):
    """Paddle's biased variance, another momentum, and no weight decay each exceed the bound."""
    checkpoint = random_checkpoint(small("resnet18"), seed=3, classes=CLASSES)
    if planted == "statistics":
        monkeypatch.setattr("paddle_models.train._unbias_statistics", lambda model: None)
    change = {"momentum": {"momentum": 0.75}, "decay": {"weight_decay": 0.0}}.get(planted, {})
    with computing_in(np.float64):
        runs = [Run("torch", checkpoint, np.float64), Run("paddle", checkpoint, np.float64, replace(RECIPE, **change))]
        found = figures(runs, FLOOR[np.float64])
    assert found["twenty steps"][0] > 10 * BOUNDS[np.float64]["twenty steps"]
