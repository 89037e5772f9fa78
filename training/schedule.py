"""The steps of a training run: each one's stage, place, resolution, margin and learning rate."""

import bisect
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

from training.recipes import Recipe, Stage


@dataclass(frozen=True)
class Step:
    """A step of a schedule: its position and its settings.

    Attributes:
        number: from 0, over all stages.
        stage: from 1.
        epoch: from 0, over all stages.
        batch: from 0, in its epoch.
        resolution: side of the training images in pixels.
        margin: the loss's margin.
        learning_rate: of the optimiser.
        first: whether it is the first step of its stage.
    """

    number: int
    stage: int
    epoch: int
    batch: int
    resolution: int
    margin: float
    learning_rate: float
    first: bool = False


class Schedule(Sequence[Step]):
    """All steps of a run in order. They are computed when they are asked for, so a run may have any number of them."""

    def __init__(self, recipe: Recipe, batches_per_epoch: int) -> None:
        self.recipe, self.batches_per_epoch = recipe, batches_per_epoch
        self._ends = list(itertools.accumulate(stage.epochs * batches_per_epoch for stage in recipe.stages))

    def __len__(self) -> int:
        return self._ends[-1]

    @overload
    def __getitem__(self, number: int) -> Step: ...

    @overload
    def __getitem__(self, number: slice) -> list[Step]: ...

    def __getitem__(self, number: int | slice) -> Step | list[Step]:
        if isinstance(number, slice):
            return [self[index] for index in range(*number.indices(len(self)))]
        number = range(len(self))[number]
        position = bisect.bisect_right(self._ends, number)
        stage, per_epoch = self.recipe.stages[position], self.batches_per_epoch
        index = number - (self._ends[position - 1] if position else 0)
        place = number // per_epoch, number % per_epoch
        rate = self._rate(stage, index)
        return Step(number, position + 1, *place, stage.resolution, stage.margin, rate, index == 0)

    def _rate(self, stage: Stage, index: int) -> float:
        """The learning rate of a stage's step: a linear warm-up, then the stage's decay."""
        total, warmup = stage.epochs * self.batches_per_epoch, round(stage.warmup_epochs * self.batches_per_epoch)
        if index < warmup:
            return stage.learning_rate * (index + 1) / warmup
        share = (index - warmup) / max(1, total - warmup)
        if stage.decay == "step":
            passed = sum(index >= round(epoch * self.batches_per_epoch) for epoch in stage.drops)
            return stage.learning_rate * stage.drop**passed
        if stage.decay == "polynomial":
            return stage.learning_rate * (1 - share) ** stage.power
        return stage.learning_rate * 0.5 * (1 + math.cos(math.pi * share))
