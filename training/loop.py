"""The training loop of both frameworks: schedule, progress, validation, resuming. A framework only implements a step.

A run depends only on recipe, data, model and framework, because order and augmentation depend only on (seed, epoch,
position). An interrupted and resumed run therefore computes the same weights as an uninterrupted one: bit for bit on CPUs, with the
same number of threads and processes.
"""

import contextlib
import json
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import numpy as np

from training.classes import own_classes
from training.events import Events
from training.execution import Execution
from training.history import History, finish_history
from training.progress import Progress
from training.recipes import Recipe
from training.schedule import Schedule, Step
from training.shards import Cut
from training.state import StateFolder, state_folder
from training.validation import ValidationSet
from zoo.checkpoint import Checkpoint, save_checkpoint, unusable
from zoo.command import ENDING, log
from zoo.errors import CheckpointError
from zoo.specs import ModelSpec
from zoo.weights import LOSS_PREFIX

STEPS_AT_ONCE = 10
"""So many steps are given to a GPU before the loop waits for their losses."""
_CUT = {f"{LOSS_PREFIX}weight", f"{LOSS_PREFIX}class_margin"}
"""The tensors that are divided by class among the processes."""
_BEST = "best mAP@100"


class Stopped(KeyboardInterrupt):
    """All processes have stopped after the same step, whose state is saved."""


class Group(Protocol):
    """The processes of a training (`torch_models.distributed.Group`)."""

    @property
    def rank(self) -> int: ...
    @property
    def size(self) -> int: ...
    def any(self, *flags: bool) -> list[bool]: ...
    def wait(self) -> None: ...
    def shared(self, value: Any) -> Any: ...
    def collected(self, value: Any) -> list[Any]: ...
    def leave(self) -> None: ...


class Trainer(Protocol):
    """What a framework implements: a step, and access to its tensors by canonical name (`torch_models.train.Trainer`)."""

    framework: str
    version: str

    def __init__(
        self,
        spec: ModelSpec,
        classes: int,
        recipe: Recipe,
        weights: dict[str, np.ndarray],
        execution: Execution,
        group: Any,
    ) -> None: ...
    def step(self, images: np.ndarray, labels: np.ndarray, step: Step) -> Any: ...
    def read(self, measured: Sequence[Any]) -> np.ndarray: ...
    def tensors(self) -> dict[str, np.ndarray]: ...
    def load(self, tensors: dict[str, np.ndarray]) -> None: ...
    def numbers(self) -> dict[str, float]: ...
    def load_numbers(self, numbers: dict[str, float]) -> None: ...
    def take_average(self) -> None: ...
    def shared_statistics(self) -> contextlib.AbstractContextManager[dict[str, np.ndarray]]: ...
    def embed(self, images: np.ndarray, averaged: bool = False) -> np.ndarray: ...


class Images(Protocol):
    """The training images of a process (`training.batches.TrainingImages`)."""

    batches_per_epoch: int
    damaged: dict[str, str]

    def batches(self, epoch: int, size: int, start: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]: ...
    def files(self, epoch: int, batch: int) -> list[str]: ...


@dataclass(frozen=True)
class Plan:
    """What is trained, and what becomes of it.

    Attributes:
        spec: the model (`Recipe.spec`).
        recipe: the schedule and the rest.
        classes: number of classes.
        out: the checkpoint to write.
        identity: what makes it the same run: recipe, model, images, framework … (`training.state.StateFolder`).
        minutes: the state is saved at least this often, because an epoch may take hours.
        events: folder of TensorBoard's files, or None.
    """

    spec: ModelSpec
    recipe: Recipe
    classes: int
    out: Path
    identity: dict[str, str]
    minutes: float = 10.0
    events: Path | None = None


def fit(
    trainer_class: type[Trainer],
    plan: Plan,
    weights: Callable[[], dict[str, np.ndarray]],
    images: Images,
    execution: Execution,
    group: Group,
    validation: ValidationSet | None = None,
) -> None:
    """Trains a model, or continues an interrupted run of the same command. Every process of the group calls it.

    Process 0 writes the checkpoint, `<out>.history.csv`, with a validation set `<out>.best.safetensors` and with a moving average
    `<out>.average.safetensors`. Until then, all of the run is in `<out>.state`: saved at the end of every epoch, every
    `plan.minutes` and on Ctrl-C.

    Args:
        trainer_class: the framework's `Trainer`.
        plan: what is trained.
        weights: makes the weights to start from, by canonical name; a state that is resumed replaces them.
        images: this process's part of the batches.
        execution: device and precision.
        group: the processes.
        validation: measured at the end of every epoch, and more often if the recipe says so.

    Raises:
        CheckpointError: the state on disk belongs to another run, or the training diverged.
        OutputError: the disk is full or the folder cannot be written.
        Stopped: Ctrl-C or another signal; the state has been saved.
    """
    _Run(trainer_class, plan, weights, images, execution, group, validation).train()


class _Run:
    def __init__(
        self,
        trainer_class: type[Trainer],
        plan: Plan,
        weights: Callable[[], dict[str, np.ndarray]],
        images: Images,
        execution: Execution,
        group: Group,
        validation: ValidationSet | None,
    ) -> None:
        self.plan, self.images, self.group, self.validation = plan, images, group, validation
        self.steps = Schedule(plan.recipe, images.batches_per_epoch)
        self.folder = StateFolder(state_folder(plan.out), plan.identity)
        own = own_classes(plan.classes, group.rank, group.size)
        saved = self._saved()
        self.trainer = trainer_class(
            plan.spec, plan.classes, plan.recipe, _rows(weights(), own, plan.spec), execution, group
        )
        self.provenance = {"framework": trainer_class.framework, "version": trainer_class.version}
        self.at_once = STEPS_AT_ONCE if execution.on_gpu else 1
        self.done, self.best, self.committed = 0, -1.0, -1
        self.shapes = {name: value.shape for name, value in self.trainer.tensors().items()}
        self.cuts = _cuts(self.shapes, own, plan)
        if saved:
            tensors, separate = self.folder.read(saved, group.rank, group.size, self._whole_shapes(), self.cuts)
            self.trainer.load(tensors | (separate or {}))
            self.best = saved.numbers[_BEST]
            self.trainer.load_numbers({name: value for name, value in saved.numbers.items() if name != _BEST})
            self.done = self.committed = saved.step
            if group.rank == 0:
                log(f"resuming after step {saved.step:,} of {len(self.steps):,} from {self.folder.path}")
        self.saved_at = time.monotonic()

    def train(self) -> None:
        """All remaining steps, then the results."""
        with contextlib.ExitStack() as held:
            leads = self.group.rank == 0
            history = History(self.folder.history, self.done, last=self.images.batches_per_epoch) if leads else None
            if history:
                held.callback(history.close)
            events = held.enter_context(Events(self.plan.events if leads else None, self.plan.out.stem, self.done))
            interrupted = held.enter_context(_interrupts())
            progress = held.enter_context(
                Progress(self.plan.out.stem, self.done, len(self.steps), self.plan.recipe.batch_size, shown=leads)
            )
            self._steps(history, events, progress, interrupted)
            losses = list(history.losses) if history else []
        self._finish(losses)

    def _steps(
        self, history: History | None, events: Events, progress: Progress, interrupted: Callable[[], bool]
    ) -> None:
        source: Iterator[tuple[np.ndarray, np.ndarray]] | None = None
        waiting: list[tuple[Step, Any]] = []
        per_epoch = self.images.batches_per_epoch
        for step in map(self.steps.__getitem__, range(self.done, len(self.steps))):
            if source is None or step.batch == 0:
                source = self.images.batches(step.epoch, step.resolution, step.batch)
            if step.first and self.plan.recipe.stages[step.stage - 1].start == "average":
                self.trainer.take_average()
            with progress.waiting():
                batch = next(source)
            waiting.append((step, self.trainer.step(*batch, step)))
            epoch_ends, number = step.batch == per_epoch - 1, step.number + 1
            measures = self._measures(number, epoch_ends)
            if not (epoch_ends or measures or len(waiting) >= self.at_once):
                continue
            self._record(waiting, history, events, progress)
            waiting = []
            if measures:
                self._validate(number, events, progress)
            stops, due = self.group.any(interrupted(), time.monotonic() - self.saved_at > 60 * self.plan.minutes)
            if epoch_ends or stops or due:
                self._save(number, history)
            if stops:
                if self.group.rank == 0:
                    log(f"stopped after step {number:,} of {len(self.steps):,}; saved {self.folder.path}")
                raise Stopped

    def _record(
        self, waiting: list[tuple[Step, Any]], history: History | None, events: Events, progress: Progress
    ) -> None:
        """Reads what the steps measured, and stops if the training has diverged."""
        values = self.trainer.read([measured for _, measured in waiting])
        for (step, _), (loss, accuracy, norm) in zip(waiting, values.tolist(), strict=True):
            self._require_sound(step, loss, norm)
            if history:
                history.add(step, loss, accuracy, norm)
            events.step(step, loss, accuracy, norm)
        step = waiting[-1][0]
        speed = progress.advance(len(waiting), step, *values[-1, :2].tolist())
        events.speed(step.number, speed)

    def _require_sound(self, step: Step, loss: float, norm: float) -> None:
        """Raises `CheckpointError` if the loss or the gradient is not finite, or the loss is larger than any start's.

        A network that knows nothing has cosines near 0 and a loss of at most log(classes) + scale · (margin + small). Far beyond
        that, at log(classes) + scale · (1 + margin), every image is as far from its own class as can be.
        """
        recipe = self.plan.recipe
        skipped = self.plan.identity["precision"] == "float16" and not math.isfinite(norm)
        limit = math.log(self.plan.classes) + recipe.scale * (1 + step.margin)
        exploded = recipe.loss.kind != "ada_cos" and loss > limit
        if math.isfinite(loss) and (math.isfinite(norm) or skipped) and not exploded:
            return
        files = self.images.files(step.epoch, step.batch)
        more = f" and {len(files) - 8} more" if len(files) > 8 else ""
        what = f"the loss is {loss:g} and the norm of its gradient {norm:g}"
        raise CheckpointError(
            f"{self.plan.out}: {what} at step {step.number:,} (learning rate {step.learning_rate:g}, margin {step.margin:g}, "
            f"{step.resolution} px), so the training diverged. {self._what_to_do()} The batch: {', '.join(files[:8])}{more}"
        )

    def _require_usable(self, tensors: dict[str, np.ndarray], number: int) -> None:
        """Raises `CheckpointError` if no checkpoint could be made of the weights: a normalised network may diverge with a finite loss."""
        for name, value in _kind(tensors, "weights").items():
            if reason := unusable(name, value):
                raise CheckpointError(
                    f"{self.plan.out}: after step {number:,}, {name} {reason}, so the training diverged. {self._what_to_do()}"
                )

    def _what_to_do(self) -> str:
        kept = f"The state of step {self.committed:,} is kept. " if self.committed > 0 else ""
        return f"{kept}Lower the recipe's learning_rate or gradient_clip, remove {self.folder.path} if it exists, and train again."

    def _measures(self, number: int, epoch_ends: bool) -> bool:
        """Whether the validation set is measured after so many steps."""
        if self.validation is None or self.plan.recipe.validation is None:
            return False
        every = self.plan.recipe.validation.steps
        return epoch_ends or bool(every and number % every == 0)

    def _validate(self, number: int, events: Events, progress: Progress) -> None:
        """mAP@100 of the weights, or of their moving average if there is one; the best network is kept in a checkpoint."""
        assert self.validation
        averaged = self.plan.recipe.average is not None
        with self.trainer.shared_statistics():
            part = self.validation.embed(
                lambda images: self.trainer.embed(images, averaged),
                self.plan.spec.preprocess,
                self.group.rank,
                self.group.size,
            )
            parts = self.group.collected(part)
            score = self.validation.score(parts) if self.group.rank == 0 else 0.0
            score = self.group.shared(score)
            if score > self.best:
                self.best = score
                if self.group.rank == 0:
                    kind = "average" if averaged else "weights"
                    note = {"steps": number, "validation mAP@100": round(score, 4)}
                    self._save_checkpoint("best", self._network(self.trainer.tensors(), kind), 0, note)
        if self.group.rank == 0:
            events.score(number, score)
            count = len(self.validation.ids)
            progress.say(f"step {number:,}: mAP@100 {score:.4f} on {count:,} held-out images, best {self.best:.4f}")

    def _save(self, number: int, history: History | None) -> None:
        """Every process writes its shard, then process 0 makes them the state."""
        if number == self.committed:
            return
        if history:
            history.sync()
        with self.trainer.shared_statistics() as own:
            tensors = self.trainer.tensors()
        self._require_usable(tensors, number)
        entry = self.folder.write(number, self.group.rank, tensors, self.cuts, own)
        entries = self.group.collected(entry)
        if self.group.rank == 0:
            self.folder.commit(number, entries, self.trainer.numbers() | {_BEST: self.best})
        self.group.wait()
        self.saved_at, self.committed = time.monotonic(), number

    def _finish(self, losses: list[float]) -> None:
        """Process 0 makes the checkpoints out of the last state, which holds the class weights of all processes."""
        damaged = sum(map(len, self.group.collected(self.images.damaged)))
        if self.group.rank == 0:
            saved = self.folder.saved()
            assert saved
            every = own_classes(self.plan.classes, 0, 1)
            cuts = _cuts(self.shapes, every, self.plan)
            tensors, _ = self.folder.read(saved, 0, 1, self._whole_shapes(), cuts)
            note = {"steps": len(self.steps), "loss": round(float(np.mean(losses)), 4)}
            finish_history(self.plan.out)
            if self.plan.recipe.average is not None:
                self._save_checkpoint("average", _kind(tensors, "average"), self.plan.classes, note)
            self._save_checkpoint("", _kind(tensors, "weights"), self.plan.classes, note)
            self.folder.remove()
            if damaged:
                log(
                    f"{damaged:,} images could not be read and were replaced; `python -m retrieval.data.check` lists them"
                )
        self.group.wait()

    def _saved(self) -> Any:
        """The state to resume from, after process 0 has removed what a killed one left."""
        if self.group.rank == 0:
            self.folder.clean()
            saved = self.folder.saved()
            if saved and saved.step >= len(self.steps) and self.plan.out.exists():
                self.folder.remove()  # of the run that wrote the checkpoint, which was killed while it tidied up
            elif saved and saved.step > len(self.steps):
                raise CheckpointError(
                    f"{self.folder.path} has {saved.step:,} steps, more than the {len(self.steps):,} of this run. "
                    f"Remove it to start again, or choose another --out."
                )
        self.group.wait()
        return self.folder.saved()

    def _whole_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of all tensors over all processes."""
        return {n: (self.cuts[n].total, *s[1:]) if n in self.cuts else s for n, s in self.shapes.items()}

    def _network(self, tensors: dict[str, np.ndarray], kind: str) -> dict[str, np.ndarray]:
        return {n: v for n, v in _kind(tensors, kind).items() if not n.startswith(LOSS_PREFIX)}

    def _save_checkpoint(self, name: str, weights: dict[str, np.ndarray], classes: int, note: dict) -> None:
        path = self.plan.out.with_suffix(f".{name}.safetensors") if name else self.plan.out
        provenance = self.provenance | {"recipe": self.plan.recipe.digest} | note
        save_checkpoint(path, Checkpoint(self.plan.spec, weights, classes, provenance))


def _rows(weights: dict[str, np.ndarray], own: range, spec: ModelSpec) -> dict[str, np.ndarray]:
    """Weights with a process's rows of what is divided by class."""

    def cut(name: str, value: np.ndarray) -> np.ndarray:
        each = _per_class(name, spec)
        return value[own.start * each : own.stop * each]

    return {name: cut(name, value) if name in _CUT else value for name, value in weights.items()}


def _cuts(shapes: dict[str, tuple[int, ...]], own: range, plan: Plan) -> dict[str, Cut]:
    """The rows of a process, by the names of `Trainer.tensors`: `<kind>/<canonical name>`."""
    found = {}
    for name in shapes:
        canonical = name.partition("/")[2]
        if canonical in _CUT:
            each = _per_class(canonical, plan.spec)
            found[name] = Cut(own.start * each, own.stop * each, plan.classes * each)
    return found


def _per_class(name: str, spec: ModelSpec) -> int:
    """Rows of a tensor per class."""
    return spec.loss.sub_centers if name.endswith(".weight") else 1


def _kind(tensors: dict[str, np.ndarray], kind: str) -> dict[str, np.ndarray]:
    """The tensors of one kind by canonical name."""
    return {name.removeprefix(f"{kind}/"): v for name, v in tensors.items() if name.startswith(f"{kind}/")}


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


def identity(plan_spec: ModelSpec, recipe: Recipe, **more: str) -> dict[str, str]:
    """What makes a run the same (`Plan.identity`)."""
    return {"recipe": recipe.digest, "model": json.dumps(plan_spec.to_dict()), **more}
