"""The training loop of both frameworks: schedule, progress, resuming. A framework only implements a step.

A run depends only on recipe, data, model and framework, because order and augmentation depend only on (seed, epoch,
position). An interrupted and resumed run therefore computes the same weights as an uninterrupted one: bit for bit on
one thread.
"""

import argparse
import contextlib
import dataclasses
import json
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol

import numpy as np
from tqdm import tqdm

from retrieval.data.fingerprint import fingerprint
from retrieval.data.gldv2 import Gldv2
from training.batches import batches_per_epoch, training_batches
from training.recipes import Recipe, Schedule, Step, read_recipe
from training.state import (
    RESTART,
    WAIT_SECONDS,
    History,
    State,
    history_path,
    load_state,
    save_state,
    state_path,
)
from zoo.arguments import given_path, ranged
from zoo.checkpoint import Checkpoint, save_checkpoint, weight_bytes
from zoo.command import ENDING, log
from zoo.disk import require_room
from zoo.errors import CheckpointError, OutputError, RecipeError
from zoo.files import output_file
from zoo.specs import ModelSpec
from zoo.strict import Seed, require
from zoo.weights import initial_weights, is_buffer, parameter_shapes

Batches = Iterator[tuple[np.ndarray, np.ndarray]]
SECONDS_BETWEEN_STATES = 600
"""The state is saved at least this often, because an epoch may take hours."""


class Trainer(Protocol):
    """What a framework implements: a step of SGD, and access to its tensors by canonical name."""

    framework: str
    version: str

    def __init__(self, spec: ModelSpec, classes: int, recipe: Recipe, weights: dict[str, np.ndarray]) -> None: ...

    def step(self, images: np.ndarray, labels: np.ndarray, step: Step) -> tuple[float, float]:
        """Trains on uint8 images [N, H, W, 3] with class indices int64 [N]; returns loss and accuracy."""
        ...

    def weights(self) -> dict[str, np.ndarray]:
        """The current float32 tensors, class weights included."""
        ...

    def momentum(self) -> dict[str, np.ndarray]:
        """SGD's momentum of each trained tensor."""
        ...

    def load_momentum(self, momentum: dict[str, np.ndarray]) -> None:
        """Restores what `momentum` returned."""
        ...


def fit(
    trainer_class: type[Trainer],
    spec: ModelSpec,
    recipe: Recipe,
    class_counts: Sequence[int],
    batches_per_epoch: int,
    batches: Callable[[Step], Batches],
    out: Path,
    *,
    images: str,
    overwrite: bool = False,
) -> None:
    """Trains a model from its initial weights, or continues an interrupted run of the same command.

    Writes `out` (the checkpoint), `<out>.history.jsonl` (one line per step) and, until the run is finished,
    `<out>.state.safetensors`: at the end of every epoch, every ten minutes and on Ctrl-C.

    Args:
        trainer_class: the framework's `Trainer`.
        spec: the model (`Recipe.spec`).
        recipe: the schedule.
        class_counts: training images per class (landmark).
        batches_per_epoch: steps per epoch.
        batches: returns the batches of a step's epoch, starting with that step.
        out: the checkpoint to write.
        images: fingerprint of the training images (`retrieval.data.fingerprint`); a run is resumed only with the same.
        overwrite: replace the checkpoint of a finished run.

    Raises:
        CheckpointError: the state on disk belongs to another run, or the training diverged.
        OutputError: `out` exists and `overwrite` is off.
        KeyboardInterrupt: Ctrl-C; the state has been saved.
    """
    require_new(out, overwrite=overwrite)
    identity = {
        "recipe": recipe.digest,
        "model": json.dumps(spec.to_dict()),
        "images": images,
        "batches_per_epoch": str(batches_per_epoch),
        "framework": trainer_class.framework,
    }
    steps, place = Schedule(recipe, batches_per_epoch), state_path(out)
    trainer, done = _begin(trainer_class, spec, recipe, class_counts, identity, place)
    if done > len(steps):
        raise CheckpointError(
            f"{place} has {done} steps, more than the {len(steps)} of this run. {RESTART.format(place)}"
        )
    history = History(history_path(out), done, last=batches_per_epoch)
    with (
        contextlib.closing(history),
        _interrupts() as interrupted,
        tqdm(total=len(steps), initial=done, desc=out.stem, unit="step") as progress,
    ):
        source: Batches | None = None
        saved_at = time.monotonic()
        for step in map(steps.__getitem__, range(done, len(steps))):
            if source is None or step.batch == 0:
                source = batches(step)
            loss, accuracy = trainer.step(*next(source), step)
            if not math.isfinite(loss):
                raise CheckpointError(
                    f"{out}: the loss is {loss} at step {step.number}, so the training diverged. Lower the recipe's "
                    f"learning_rate, remove {place} if it exists, and train again."
                )
            history.add(step, loss, accuracy)
            progress.update()
            progress.set_postfix(stage=step.stage, px=step.resolution, loss=f"{loss:.3f}", accuracy=f"{accuracy:.2f}")
            epoch_ends = step.batch == batches_per_epoch - 1
            if interrupted() or epoch_ends or time.monotonic() - saved_at > SECONDS_BETWEEN_STATES:
                history.sync()
                save_state(place, State(step.number + 1, trainer.weights(), trainer.momentum()), identity)
                saved_at = time.monotonic()
            if interrupted():
                log(f"stopped after step {step.number + 1} of {len(steps)}; saved {place}")
                raise KeyboardInterrupt
    provenance = {"framework": trainer_class.framework, "version": trainer_class.version, "recipe": recipe.digest}
    provenance |= {"steps": len(steps), "loss": round(float(np.mean(history.losses)), 4)}
    save_checkpoint(out, Checkpoint(spec, trainer.weights(), len(class_counts), provenance))
    place.unlink(missing_ok=True)


def _begin(
    trainer_class: type[Trainer],
    spec: ModelSpec,
    recipe: Recipe,
    class_counts: Sequence[int],
    identity: dict[str, str],
    place: Path,
) -> tuple[Trainer, int]:
    """The trainer, and the number of steps that are already done."""
    classes = len(class_counts)
    if not place.exists():
        return trainer_class(spec, classes, recipe, initial_weights(spec, class_counts, recipe.seed)), 0
    state = load_state(place, identity, parameter_shapes(spec, classes))
    trainer = trainer_class(spec, classes, recipe, state.weights)
    trainer.load_momentum(state.momentum)
    log(f"resuming after step {state.steps} from {place}")
    return trainer, state.steps


def require_new(out: Path, *, overwrite: bool) -> None:
    """Raises `OutputError` if `out` exists, which means that the run is finished, and `overwrite` is off."""
    if out.exists() and not overwrite:
        raise OutputError(
            f"{out} already exists, so this run is finished. Choose another --out, or pass --overwrite to train again."
        )


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Defers SIGINT, SIGTERM and SIGHUP until the current step has finished. Yields a function that tells whether one arrived."""
    caught: list[int] = []

    def catch(number: int, frame: FrameType | None) -> None:
        caught.append(number)

    old = {number: signal.signal(number, catch) for number in ENDING if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield lambda: bool(caught)
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def train(
    trainer_class: type[Trainer],
    recipe_path: Path,
    data: Path,
    out: Path,
    *,
    model: str | None = None,
    seed: int | None = None,
    overwrite: bool = False,
) -> None:
    """Trains a model of a recipe on a data set.

    Args:
        trainer_class: the framework's `Trainer`.
        recipe_path: a YAML file (`training.recipes`).
        data: a data set in the Google Landmarks v2 layout.
        out: the checkpoint to write.
        model: the variant; by default the recipe's, if it has only one.
        seed: replaces the recipe's.
        overwrite: replace the checkpoint of a finished run.

    Raises:
        RecipeError: the recipe is wrong, or has several models and `model` is None.
        DataError, CheckpointError, OutputError: see `fit`.
    """
    require_new(out, overwrite=overwrite)
    dataset = Gldv2(data)
    with output_file(out, [recipe_path, *dataset.files()], around=[dataset.root], wait=WAIT_SECONDS):
        require_new(out, overwrite=overwrite)  # another process may have finished it in the meantime
        _train(trainer_class, read_recipe(recipe_path), recipe_path, dataset, out, model, seed, overwrite=overwrite)


def _train(
    trainer_class: type[Trainer],
    recipe: Recipe,
    recipe_path: Path,
    dataset: Gldv2,
    out: Path,
    model: str | None,
    seed: int | None,
    *,
    overwrite: bool,
) -> None:
    if seed is not None:
        recipe = dataclasses.replace(recipe, seed=require(Seed, seed, "seed"))
    if not model and len(recipe.models) > 1:
        raise RecipeError(f"{recipe_path} has several models: choose {' or '.join(recipe.models)} with --model")
    train_set = dataset.train()

    def batches(step: Step) -> Batches:
        return training_batches(
            dataset.root,
            train_set,
            batch_size=recipe.batch_size,
            size=step.resolution,
            seed=recipe.seed,
            epoch=step.epoch,
            start=step.batch,
            **dataclasses.asdict(recipe.augmentation),
        )

    spec, per_epoch = recipe.spec(model or recipe.models[0]), batches_per_epoch(train_set, recipe.batch_size)
    _require_room(out, spec, len(train_set.class_counts))
    fit(
        trainer_class,
        spec,
        recipe,
        train_set.class_counts,
        per_epoch,
        batches,
        out,
        images=fingerprint(dataset, "train"),
        overwrite=overwrite,
    )


def _require_room(out: Path, spec: ModelSpec, classes: int) -> None:
    """For the checkpoint, and for the state if there is none yet: weights and momentum."""
    weights = weight_bytes(spec, classes)
    momentum = 4 * sum(
        math.prod(shape) for name, shape in parameter_shapes(spec, classes).items() if not is_buffer(name)
    )
    state = 0 if state_path(out).exists() else weights + momentum
    require_room(out, weights + state, largest=weights + momentum)


def main(trainer_class: type[Trainer]) -> None:
    """The command line of both frameworks' `train`."""
    framework = trainer_class.framework
    parser = argparse.ArgumentParser(
        description=f"""Trains an ArcMargin model in {framework}.

Example:
    python -m {framework}_models.train --recipe recipes/demo.yaml --model resnet10_narrow --data DATA --out resnet.safetensors

If interrupted, run the same command again to resume. With OMP_NUM_THREADS=1 the weights are bit-identical to those of an
uninterrupted run.""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--recipe", required=True, type=given_path, help="YAML; `python -m training.reference` lists every key"
    )
    parser.add_argument("--model", help="the variant; default: the recipe's, if it has only one")
    parser.add_argument("--data", required=True, type=given_path, help="a data set in the Google Landmarks v2 layout")
    parser.add_argument("--out", required=True, type=given_path, help="the checkpoint to write (.safetensors)")
    parser.add_argument(
        "--seed",
        type=ranged(Seed),
        help="replaces the recipe's; use different seeds for the members of an ensemble",
    )
    parser.add_argument("--overwrite", action="store_true", help="train again if the checkpoint exists")
    given = parser.parse_args()
    train(
        trainer_class,
        given.recipe,
        given.data,
        given.out,
        model=given.model,
        seed=given.seed,
        overwrite=given.overwrite,
    )
    print(given.out)
