"""The training steps of one side, ours or a plain loop: the process that `benchmarks.training` starts for each of them.

Paddle and PyTorch never share a process, and what a trainer tells the C library and Paddle about memory and the processor counts for
its whole process. So every side has its own.
"""

import importlib
import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from training.execution import Execution
from training.recipes import Recipe, Stage
from training.schedule import Step
from zoo.command import run
from zoo.specs import ModelSpec
from zoo.variants import get_spec
from zoo.weights import initial_weights

OURS, PLAIN, CLIPPED, HALF = "ours", "plain", "plain, clipped", "ours, bfloat16"
"""What takes turns: our trainer; a plain loop; the same with our recipe's gradient clip; our trainer in bfloat16."""
CLIP = 5.0
"""The recipes' default, and with it the largest norm of the gradients of `OURS` and `CLIPPED`."""


@dataclass(frozen=True)
class Setting:
    """What is trained, and how.

    Attributes:
        model: a variant of the zoo.
        batch: images per step.
        size: side of the images in pixels.
        classes: of the margin loss.
        margin: in radians.
        scale: factor of the cosines.
        learning_rate: of SGD.
        momentum: Nesterov's.
        weight_decay: of convolutions, the linear layer and the class weights.
    """

    model: str
    batch: int
    size: int
    classes: int = 81
    margin: float = 0.3
    scale: float = 30.0
    learning_rate: float = 0.005
    momentum: float = 0.9
    weight_decay: float = 1e-4

    def batches(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Random images uint8 [N, S, S, 3] and labels int64 [N] of four steps, which are repeated."""
        random = np.random.default_rng(0)
        shape = (self.batch, self.size, self.size, 3)
        return [
            (random.integers(0, 256, shape, dtype=np.uint8), random.integers(0, self.classes, self.batch))
            for _ in range(4)
        ]


StepOf = Callable[[np.ndarray, np.ndarray], float]


def side(name: str, framework: str, setting: Setting, spec: ModelSpec | None = None) -> StepOf:
    """A function that makes a step and returns the loss, as the training loop and everybody's own loop read it.

    Args:
        name: `OURS`, `PLAIN`, `CLIPPED` or `HALF`.
        framework: `torch` or `paddle`.
        setting: what is trained.
        spec: the model; by default the variant of the setting.
    """
    spec = spec or get_spec(setting.model)
    weights = initial_weights(spec, [1] * setting.classes, seed=0)
    if name in (PLAIN, CLIPPED):
        peer = importlib.import_module(f"benchmarks.plain_{framework}")
        return peer.PlainLoop(spec, weights, setting, CLIP if name == CLIPPED else None).step
    recipe = Recipe(
        models=[setting.model],
        stages=[Stage(1, setting.size, setting.margin, setting.learning_rate)],
        batch_size=setting.batch,
        scale=setting.scale,
        momentum=setting.momentum,
        weight_decay=setting.weight_decay,
        gradient_clip=CLIP,
    )
    execution = Execution(precision="bfloat16" if name == HALF else "float32")
    trainer = importlib.import_module(f"{framework}_models.train").Trainer(
        spec, setting.classes, recipe, weights, execution
    )
    step = Step(0, 1, 0, 0, setting.size, setting.margin, setting.learning_rate)

    def stepped(images: np.ndarray, labels: np.ndarray) -> float:
        return float(trainer.read([trainer.step(images, labels, step)])[0, 0])

    return stepped


def main() -> None:
    """Answers the requests of `benchmarks.serving_process.Worker`, {"steps"}, with {"seconds", "losses"} of each step."""
    # Libraries print to stdout; answers go through a private copy of it.
    answers = os.fdopen(os.dup(1), "w", 1)
    os.dup2(2, 1)
    job = json.loads(sys.argv[1])
    setting = Setting(**job["setting"])
    step = side(job["side"], job["framework"], setting)
    versions = {job["framework"]: importlib.import_module(job["framework"]).__version__}
    print(json.dumps({"forms": {}, "versions": versions}), file=answers)
    batches = itertools.cycle(setting.batches())
    for line in sys.stdin:
        seconds, losses = [], []
        for _ in range(json.loads(line)["steps"]):
            batch = next(batches)
            start = time.perf_counter()
            losses.append(step(*batch))
            seconds.append(time.perf_counter() - start)
        print(json.dumps({"seconds": seconds, "losses": losses}), file=answers)


if __name__ == "__main__":
    run(main)
