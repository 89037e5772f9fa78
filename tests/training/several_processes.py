"""Trains small networks in float64 in one of several processes: a launcher starts it, and `test_distributed.py` compares.

python tests/training/several_processes.py torch FOLDER STEPS
"""

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # Paddle's launcher takes a path, not a module

import numpy as np

from training.classes import own_classes
from training.recipes import Recipe, Stage
from training.schedule import Schedule
from zoo.specs import LossSpec
from zoo.weights import initial_weights

CLASSES, BATCH, SIZE = 7, 12, 32
RECIPE = Recipe(
    models=["resnet10_narrow"],
    stages=[Stage(2, SIZE, 0.1, 0.02, warmup_epochs=0.5), Stage(2, SIZE, 0.3, 0.01)],
    batch_size=BATCH,
    batch_norm="synchronised",
    gradient_clip=2.0,
    weight_decay=2**-11,
    momentum=0.875,
)
SETTINGS: dict[str, dict] = {
    "arc_face": {"average": 0.875},
    "resnest": {"models": ["resnest14_narrow"]},
    "cos_face": {"loss": LossSpec("cos_face"), "label_smoothing": 0.125},
    "curricular_face": {"loss": LossSpec("curricular_face"), "accumulation": 2},
    "ada_cos": {"loss": LossSpec("ada_cos")},
    "dynamic_sub_center": {"loss": LossSpec("dynamic_arc_face", sub_centers=2), "negatives": 0.5},
    # AdamW divides a gradient that consists of rounding only, such as that of a bias before BatchNorm, by its own size.
    "adamw": {"frozen": ("backbone",), "optimiser": "adamw"},
}
LONG = ("arc_face", "resnest")
"""These train for all steps, the others for a third, unless every one is asked for."""


def rows(name: str, value: np.ndarray, own: range, recipe: Recipe) -> np.ndarray:
    """A process's rows of an initial tensor."""
    each = recipe.loss.sub_centers if name == "arc_margin.weight" else 1
    return value[own.start * each : own.stop * each] if name.startswith("arc_margin.") and len(value) > 1 else value


def exchanging_threads() -> list[str]:
    """Names of this process's threads that exchange tensors; none where the system does not tell names of threads."""
    names = [path.read_text(encoding="utf-8").strip() for path in Path("/proc/self/task").glob("*/comm")]
    return sorted(name for name in names if "gloo" in name)


def main(framework: str, folder: Path, steps: int, every: bool, device: str = "cpu") -> None:
    """Writes `<setting>-<rank>.npz`: the losses, and the process's tensors after the last step."""
    library = importlib.import_module(framework)
    module = importlib.import_module(f"{framework}_models.train")
    library.set_default_dtype("float64" if framework == "paddle" else library.float64)
    group = module.join(device)
    _train_all(module, group, folder, steps, every, device)
    group.leave()
    if left := exchanging_threads():
        raise SystemExit(f"these threads outlived the exchange, and may abort the process when it ends: {left}")


def _train_all(module: Any, group: Any, folder: Path, steps: int, every: bool, device: str) -> None:
    for name, change in SETTINGS.items():
        recipe = replace(RECIPE, **change)
        spec = recipe.spec(recipe.models[0])
        own = own_classes(CLASSES, group.rank, group.size)
        weights = initial_weights(spec, [9, 3, 5, 8, 4, 4, 7], seed=1)
        mine = {key: rows(key, value, own, recipe).astype(np.float64) for key, value in weights.items()}
        trainer = module.Trainer(spec, CLASSES, recipe, mine, module.Execution(device), group)
        schedule, measured = Schedule(recipe, 10), []
        share = slice(group.rank * BATCH // group.size, (group.rank + 1) * BATCH // group.size)
        for number in range(steps if every or name in LONG else steps // 3):
            random = np.random.default_rng(number)
            images = random.integers(0, 256, (BATCH, SIZE, SIZE, 3), dtype=np.uint8)
            labels = random.integers(0, CLASSES, BATCH)
            measured.append(trainer.step(images[share], labels[share], schedule[number]))
        np.savez(folder / f"{name}-{group.rank}.npz", measured=trainer.read(measured), **trainer.tensors())


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4]), *sys.argv[5:])
