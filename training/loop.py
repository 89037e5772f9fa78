"""The training loop that both frameworks share: schedule, progress, resuming. A framework only does the steps.

A run is a pure function of recipe, data, model and framework: order and augmentation depend on (seed, epoch, position)
alone. So a run that was interrupted and resumed computes the same weights as an unbroken one, to the bit on one thread.
"""

import argparse
import dataclasses
import hashlib
import json
import math
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol

import numpy as np
from tqdm import tqdm

from training.recipes import Recipe, Step, read_recipe, schedule
from zoo.checkpoint import Checkpoint, read_tensors, save_checkpoint, write_tensors
from zoo.command import log
from zoo.errors import CheckpointError, RecipeError
from zoo.files import write_json
from zoo.specs import ModelSpec
from zoo.weights import initial_weights

Batches = Iterator[tuple[np.ndarray, np.ndarray]]
MOMENTUM = "momentum:"


class Trainer(Protocol):
    """What a framework brings: one step of SGD, and its tensors by canonical name."""

    framework: str
    version: str

    def __init__(self, spec: ModelSpec, classes: int, recipe: Recipe, weights: dict[str, np.ndarray]) -> None: ...
    def step(self, images: np.ndarray, labels: np.ndarray, step: Step) -> tuple[float, float]: ...
    def weights(self) -> dict[str, np.ndarray]: ...
    def momentum(self) -> dict[str, np.ndarray]: ...
    def load_momentum(self, momentum: dict[str, np.ndarray]) -> None: ...


def fit(
    trainer_class: type[Trainer],
    spec: ModelSpec,
    recipe: Recipe,
    class_counts: Sequence[int],
    batches_per_epoch: int,
    batches: Callable[[Step], Batches],
    out: Path,
) -> None:
    """Trains a model from its first weights, or from where an earlier run of the same command stopped.

    Writes `out` (the checkpoint), `<out>.history.json` (one entry a step) and, until it is done,
    `<out>.state.safetensors`, at every epoch's end and on Ctrl-C.

    Args:
        trainer_class: the framework's.
        spec: the model (`Recipe.spec`).
        recipe: the schedule.
        class_counts: training images of each landmark to tell apart.
        batches_per_epoch: steps an epoch.
        batches: the batches of a step's epoch from that step on.
        out: the checkpoint to write.

    Raises:
        CheckpointError: the state that was found belongs to another run, or the training diverged.
        KeyboardInterrupt: Ctrl-C; the state has been saved.
    """
    identity = {
        "recipe": recipe.digest,
        "model": json.dumps(spec.to_dict()),
        "class_counts": hashlib.sha256(np.asarray(class_counts, np.int64).tobytes()).hexdigest(),
        "batches_per_epoch": str(batches_per_epoch),
        "framework": trainer_class.framework,
    }
    steps = schedule(recipe, batches_per_epoch)
    state = out.with_suffix(".state.safetensors")
    trainer, history = _begin(trainer_class, spec, recipe, class_counts, identity, state)

    def save_state() -> None:
        tensors = trainer.weights() | {MOMENTUM + name: value for name, value in trainer.momentum().items()}
        write_tensors(state, tensors, identity | {"history": json.dumps(history)})

    with (
        _interrupts() as interrupted,
        tqdm(total=len(steps), initial=len(history), desc=out.stem, unit="step") as progress,
    ):
        source: Batches | None = None
        for step in steps[len(history) :]:
            if source is None or step.batch == 0:
                source = batches(step)
            loss, accuracy = trainer.step(*next(source), step)
            if not math.isfinite(loss):
                raise CheckpointError(
                    f"{out}: the loss is {loss} at step {step.number}, so the training diverged. Lower the recipe's "
                    f"learning_rate; the last sound state is {state if state.exists() else 'the beginning'}."
                )
            history.append(_entry(step, loss, accuracy))
            progress.update()
            progress.set_postfix(stage=step.stage, px=step.resolution, loss=f"{loss:.3f}", accuracy=f"{accuracy:.2f}")
            if interrupted():
                save_state()
                log(f"stopped after step {step.number + 1} of {len(steps)}; saved {state}")
                raise KeyboardInterrupt
            if step.batch == batches_per_epoch - 1:
                save_state()
    provenance = {"framework": trainer_class.framework, "version": trainer_class.version, "recipe": recipe.digest}
    provenance |= {
        "steps": len(steps),
        "loss": round(float(np.mean([h["loss"] for h in history[-batches_per_epoch:]])), 4),
    }
    write_json(out.with_suffix(".history.json"), history)
    save_checkpoint(out, Checkpoint(spec, trainer.weights(), len(class_counts), provenance))
    state.unlink(missing_ok=True)


def _begin(
    trainer_class: type[Trainer],
    spec: ModelSpec,
    recipe: Recipe,
    class_counts: Sequence[int],
    identity: dict[str, str],
    state: Path,
) -> tuple[Trainer, list[dict]]:
    classes = len(class_counts)
    if not state.exists():
        return trainer_class(spec, classes, recipe, initial_weights(spec, class_counts, recipe.seed)), []
    tensors, header = read_tensors(state)
    differing = [key for key, value in identity.items() if header.get(key) != value]
    if differing:
        raise CheckpointError(
            f"{state} is the state of another run (its {' and '.join(differing)} differ). "
            "Remove it to begin anew, or choose another --out."
        )
    history = json.loads(header["history"])
    trainer = trainer_class(spec, classes, recipe, {n: v for n, v in tensors.items() if not n.startswith(MOMENTUM)})
    trainer.load_momentum({n.removeprefix(MOMENTUM): v for n, v in tensors.items() if n.startswith(MOMENTUM)})
    log(f"resuming after step {len(history)} from {state}")
    return trainer, history


def _entry(step: Step, loss: float, accuracy: float) -> dict:
    entry = {"step": step.number, "stage": step.stage, "resolution": step.resolution, "margin": step.margin}
    return entry | {"learning_rate": step.learning_rate, "loss": loss, "accuracy": accuracy}


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Holds Ctrl-C and a polite kill back until the step is done, so that no state is saved from the middle of one."""
    caught: list[int] = []

    def catch(number: int, frame: FrameType | None) -> None:
        caught.append(number)

    old = {number: signal.signal(number, catch) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(caught)
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def parse_arguments(framework: str) -> argparse.Namespace:
    """The command line of both frameworks' `train`; `recipe` and `spec` are read."""
    parser = argparse.ArgumentParser(
        description=f"""Trains an ArcMargin model in {framework}.

Example:
    python -m {framework}_models.train --recipe recipes/demo.yaml --model resnet10_narrow --data DATA --out resnet.safetensors

Interrupted, the same command goes on where it stopped; with OMP_NUM_THREADS=1, to the same weights bit by bit.""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--recipe", required=True, type=Path, help="YAML; recipes/demo.yaml shows every key")
    parser.add_argument("--model", help="variant; default: the recipe's, where it names only one")
    parser.add_argument("--data", required=True, type=Path, help="a data set in the Google Landmarks v2 layout")
    parser.add_argument("--out", required=True, type=Path, help="the checkpoint to write (.safetensors)")
    parser.add_argument("--seed", type=int, help="instead of the recipe's: members that differ make a better ensemble")
    arguments = parser.parse_args()
    arguments.recipe = read_recipe(arguments.recipe)
    if arguments.seed is not None:
        arguments.recipe = dataclasses.replace(arguments.recipe, seed=arguments.seed)
    if not arguments.model and len(arguments.recipe.models) > 1:
        raise RecipeError(f"the recipe is for {' and '.join(arguments.recipe.models)}; choose one with --model")
    arguments.spec = arguments.recipe.spec(arguments.model or arguments.recipe.models[0])
    return arguments
