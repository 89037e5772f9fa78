"""The command of both trainers: `python -m torch_models.train` and `python -m paddle_models.train`, on any number of processes."""

import argparse
import contextlib
import dataclasses
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.data.fingerprint import fingerprint
from retrieval.data.gldv2 import Gldv2, TrainSet
from retrieval.data.images import decode
from retrieval.data.sources import open_source
from training.batches import TrainingImages
from training.execution import Execution, add_options, choose_device
from training.loop import Group, Plan, Stopped, Trainer, fit, identity
from training.partners import Partner, ended, myself, obituary
from training.recipes import Recipe, read_recipe
from training.split import split_by_class
from training.state import WAIT_SECONDS, state_folder
from training.validation import ValidationSet
from zoo.arguments import given_path, ranged
from zoo.checkpoint import Checkpoint, load_checkpoint, weight_bytes
from zoo.checkpoint import fingerprint as weights_fingerprint
from zoo.command import ENDING, FAILED, log
from zoo.disk import require_room
from zoo.errors import CheckpointError, DataError, OutputError, RecipeError, ZooError
from zoo.files import output_file
from zoo.specs import ModelSpec
from zoo.strict import Count, Positive, Seed, require
from zoo.weights import LOSS_PREFIX, initial_weights, is_buffer, parameter_shapes

Join = Callable[[str], Group]
"""Makes the group of the processes that a launcher started; the argument is the device."""
_LOCAL_RANKS = ("LOCAL_RANK", "PADDLE_LOCAL_RANK", "PADDLE_RANK_IN_NODE")
"""Where the launchers say which process of its machine this is."""
_COMMON_SECONDS = 5.0
"""How long a process waits before it reports an error that process 0 may have found, too."""
_LINGER_SECONDS = 2.0


@dataclass(frozen=True)
class Options:
    """What a user may choose besides the recipe.

    Attributes:
        model: the variant; by default the recipe's, if it has only one.
        seed: replaces the recipe's.
        changes: values that replace the recipe's, such as `stages.0.margin=0.3`.
        init: a checkpoint whose network the training starts from.
        overwrite: replace the checkpoint of a finished run.
        workers: threads of a process that decode images; by default its share of the processors.
        state_minutes: the state is saved at least this often.
        tensorboard: folder of TensorBoard's files.
    """

    model: str | None = None
    seed: int | None = None
    changes: Sequence[str] = ()
    init: Path | None = None
    overwrite: bool = False
    workers: int | None = None
    state_minutes: float = 10.0
    tensorboard: Path | None = None


def train(
    trainer_class: type[Trainer],
    join: Join,
    recipe_path: Path,
    data: Path,
    out: Path,
    execution: Execution,
    options: Options = Options(),
) -> None:
    """Trains a model of a recipe on a data set; every process that a launcher started calls it.

    Args:
        trainer_class: the framework's `Trainer`.
        join: the framework's `distributed.join`.
        recipe_path: a YAML file (`training.recipes`).
        data: a data set in the Google Landmarks v2 layout.
        out: the checkpoint to write.
        execution: device and precision.
        options: the rest.

    Raises:
        RecipeError: the recipe is wrong, or has several models and none was chosen.
        DataError, CheckpointError, OutputError: see `training.loop.fit`; `init` is not a checkpoint of the model's backbone.
    """
    group = join(execution.device)
    partners = [Partner(*found) for found in group.collected(tuple(myself()))]
    # Process 0 holds the output, and finds what is wrong with the command before the others begin.
    held = _output(recipe_path, data, out, options) if group.rank == 0 else contextlib.nullcontext()
    voice = _one_voice(group, partners) if group.size > 1 else contextlib.nullcontext()
    with voice, held:
        group.wait()
        _train(trainer_class, group, recipe_path, data, out, execution, options)
    group.leave()


@contextmanager
def _output(recipe_path: Path, data: Path, out: Path, options: Options) -> Iterator[None]:
    """Holds the output against other trainings, after checking that it can be written."""
    require_new(out, overwrite=options.overwrite)
    dataset = Gldv2(data)
    inputs = [recipe_path, *dataset.files(), *([options.init] if options.init else [])]
    with output_file(out, inputs, around=[dataset.root], wait=WAIT_SECONDS):
        require_new(out, overwrite=options.overwrite)  # another process may have finished it in the meantime
        yield


@contextmanager
def _one_voice(group: Group, partners: Sequence[Partner]) -> Iterator[None]:
    """One message about what ends a training of several processes, and an exit."""
    try:
        yield
    except ZooError as error:
        if group.rank == 0:
            raise
        # If process 0 has found the same, its launcher ends this one in the meantime.
        with contextlib.suppress(KeyboardInterrupt):
            time.sleep(_COMMON_SECONDS)
            raise type(error)(f"process {group.rank} of {group.size}: {error}") from error
        sys.exit(FAILED)
    except Stopped:
        if group.rank == 0:
            raise
        sys.exit(FAILED)
    except (KeyboardInterrupt, RuntimeError, OSError, ValueError) as error:
        if not isinstance(error, KeyboardInterrupt) and not _is_lost_connection(error):
            raise
        # The launcher, which noticed it as well, would end this process before it has spoken.
        _ignore_signals()
        by_signal = isinstance(error, KeyboardInterrupt)
        if by_signal and not ended(partners, group.rank):
            raise
        if message := obituary(partners, group.rank):
            print(f"error: {message}", file=sys.stderr, flush=True)
            time.sleep(_LINGER_SECONDS)  # the others see that this process was there to speak
        sys.exit(FAILED)


def _ignore_signals() -> None:
    """From now on nothing but SIGKILL ends this process early; one that arrives in the meantime counts no more."""
    for number in ENDING:
        with contextlib.suppress(KeyboardInterrupt):
            signal.signal(number, signal.SIG_IGN)


def _is_lost_connection(error: Exception) -> bool:
    """Whether an exchange failed because another process is gone, in the words of gloo and NCCL."""
    text = str(error).lower()
    return any(word in text for word in ("connection", "socket", "gloo", "nccl", "peer", "timed out", "timeout"))


def _train(
    trainer_class: type[Trainer],
    group: Group,
    recipe_path: Path,
    data: Path,
    out: Path,
    execution: Execution,
    options: Options,
) -> None:
    recipe = read_recipe(recipe_path, options.changes)
    if options.seed is not None:
        recipe = dataclasses.replace(recipe, seed=require(Seed, options.seed, "seed"))
    if not options.model and len(recipe.models) > 1:
        raise RecipeError(f"{recipe_path} has several models: choose {' or '.join(recipe.models)} with --model")
    spec = recipe.spec(options.model or recipe.models[0])
    dataset = Gldv2(data)
    train_set, held_out = dataset.train(), None
    if recipe.validation:
        train_set, held_out = split_by_class(train_set, recipe.validation.classes, recipe.seed)
    classes = len(train_set.class_counts)
    _require_divisible(recipe, classes, group.size)
    images = TrainingImages(
        dataset,
        train_set,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        augmentation=recipe.augmentation,
        sampling=recipe.sampling,
        rank=group.rank,
        processes=group.size,
        workers=options.workers or max(1, len(os.sched_getaffinity(0)) // _processes_here()),
    )
    initial = load_checkpoint(options.init) if options.init else None
    if group.rank == 0:
        _require_room(out, spec, classes, recipe)
    run = identity(
        spec,
        recipe,
        images=group.shared(fingerprint(dataset, "train") if group.rank == 0 else ""),
        batches_per_epoch=str(images.batches_per_epoch),
        framework=trainer_class.framework,
        precision=execution.precision,
        init=weights_fingerprint(initial) if initial else "",
    )
    plan = Plan(spec, recipe, classes, out, run, options.state_minutes, options.tensorboard)

    def weights() -> dict[str, np.ndarray]:
        made = initial_weights(spec, train_set.class_counts, recipe.seed)
        return made | _taken_over(initial, options.init, made, shown=group.rank == 0) if initial else made

    validation = _validation_set(dataset, held_out, recipe) if held_out else None
    fit(trainer_class, plan, weights, images, execution, group, validation)


def _validation_set(dataset: Gldv2, held_out: TrainSet, recipe: Recipe) -> ValidationSet:
    source = open_source(dataset, "train")
    assert recipe.validation

    def read(image_id: str) -> np.ndarray:
        return decode(source.read(image_id), source.place(image_id))

    return ValidationSet(held_out, recipe.validation.images, read)


def _taken_over(
    initial: Checkpoint, path: Path | None, made: dict[str, np.ndarray], *, shown: bool
) -> dict[str, np.ndarray]:
    """The tensors of another checkpoint that fit the model: all of its backbone, and what else has the same shape.

    Raises:
        CheckpointError: the backbone is another one.
    """
    fitting = {name: v for name, v in initial.weights.items() if name in made and v.shape == made[name].shape}
    if missing := [name for name in made if name.startswith("backbone.") and name not in fitting]:
        raise CheckpointError(
            f"{path} is a checkpoint of {initial.spec.name} and has no fitting {missing[0]} for this backbone. Choose the model that "
            "it was made for, or another --init."
        )
    new = [name for name in made if name not in fitting and not name.startswith(LOSS_PREFIX)]
    if shown:
        classes = f"{LOSS_PREFIX}weight" in fitting
        log(
            f"starting from {path}: {len(fitting):,} tensors; {'its' if classes else 'new'} class weights"
            + (f"; new: {', '.join(new)}" if new else "")
        )
    return fitting


def _require_divisible(recipe: Recipe, classes: int, processes: int) -> None:
    """Raises an error unless every process gets equal parts of a batch, and some classes."""
    each = recipe.batch_size // processes
    if recipe.batch_size % processes or each % recipe.accumulation or each // recipe.accumulation < 2:
        raise RecipeError(
            f"batch_size: {recipe.batch_size} images cannot be divided among {processes} processes with {recipe.accumulation} equal "
            "parts of at least 2 images each. Change batch_size, accumulation or the number of processes."
        )
    if classes < processes:
        raise DataError(f"the training set has {classes} classes, fewer than the {processes} processes. Start fewer.")


def _processes_here() -> int:
    for name in ("LOCAL_WORLD_SIZE", "PADDLE_LOCAL_SIZE", "PADDLE_TRAINERS_NUM"):
        if os.environ.get(name, "").isdecimal():
            return max(1, int(os.environ[name]))
    return 1


def require_new(out: Path, *, overwrite: bool) -> None:
    """Raises `OutputError` if `out` exists, which means that the run is finished, and `overwrite` is off."""
    if out.exists() and not overwrite:
        raise OutputError(
            f"{out} already exists, so this run is finished. Choose another --out, or pass --overwrite to train again."
        )


def _require_room(out: Path, spec: ModelSpec, classes: int, recipe: Recipe) -> None:
    """For the checkpoints, and for the state if there is none yet: the weights, the optimiser's state, the moving average."""
    weights = weight_bytes(spec, classes)
    slots = 2 if recipe.optimiser == "adamw" else 1
    trained = 4 * sum(
        math.prod(shape) for name, shape in parameter_shapes(spec, classes).items() if not is_buffer(name)
    )
    checkpoints = weights * (2 if recipe.average is not None else 1)
    state = checkpoints + slots * trained
    needed = checkpoints + (0 if state_folder(out).exists() else state)
    require_room(out, needed, largest=state)


def main(trainer_class: type[Trainer], join: Join, count_gpus: Callable[[], int]) -> None:
    """The command line of both frameworks' `train`.

    Args:
        trainer_class: the framework's `Trainer`.
        join: the framework's `distributed.join`.
        count_gpus: how many GPUs the framework sees.
    """
    framework = trainer_class.framework
    several = {
        "torch": "torchrun --standalone --nproc_per_node 4 -m torch_models.train",
        "paddle": "python -m paddle.distributed.launch --nproc_per_node 4 paddle_models/train.py",
    }[framework]
    parser = argparse.ArgumentParser(
        description=f"""Trains an ArcMargin model in {framework}.

Example:
    python -m {framework}_models.train --recipe recipes/demo.yaml --model resnet10_narrow --data DATA --out resnet.safetensors

With several processes, each on its own GPU, or all on CPUs:
    {several} --recipe …

If interrupted, run the same command again to resume, on any number of processes. On CPUs, with the same number of processes and
with OMP_NUM_THREADS=1, the weights are bit-identical to those of an uninterrupted run.""",
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
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="replaces values of the recipe: stages.0.margin=0.3"
    )
    parser.add_argument("--init", type=given_path, help="a checkpoint to start from; its classes may be others")
    parser.add_argument("--overwrite", action="store_true", help="train again if the checkpoint exists")
    add_options(parser)
    parser.add_argument("--workers", type=ranged(Count), help="threads per process that decode images")
    parser.add_argument(
        "--state-minutes", type=ranged(Positive), default=10.0, help="save the state at least this often. Default: 10"
    )
    parser.add_argument("--tensorboard", type=given_path, help="folder for TensorBoard's files")
    given = parser.parse_args()
    train(
        trainer_class,
        join,
        given.recipe,
        given.data,
        given.out,
        execution(given.device, count_gpus(), given.precision, given.no_channels_last, given.compile),
        Options(
            given.model,
            given.seed,
            given.set,
            given.init,
            given.overwrite,
            given.workers,
            given.state_minutes,
            given.tensorboard,
        ),
    )
    if _local_rank() == 0:
        print(given.out)


def execution(device: str, gpus: int, precision: Any, no_channels_last: bool, compile: bool) -> Execution:
    """The options of a command line for this process."""
    return Execution(choose_device(device, gpus, _local_rank()), precision, not no_channels_last, compile)


def _local_rank() -> int:
    return next((int(os.environ[name]) for name in _LOCAL_RANKS if os.environ.get(name, "").isdecimal()), 0)
