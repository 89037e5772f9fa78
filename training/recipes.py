"""Training recipes: stages of increasing margin and resolution, read strictly from YAML.

The schedule follows the 2nd place solution (arXiv 2210.01624): ArcMargin with scale 30, with margin and resolution
increased and the learning rate decreased from stage to stage. The margins were not published; those in recipes/ are our
own.
"""

import bisect
import dataclasses
import hashlib
import itertools
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, overload

from msgspec import Meta

from zoo.errors import RecipeError, SpecError
from zoo.limits import BATCH_PIXELS
from zoo.lookup import find_spec
from zoo.specs import HeadSpec, LossSpec, ModelSpec
from zoo.strict import Count, NonNegative, Pixels, Positive, Seed, Share, read_fields
from zoo.yaml_files import line_of, read_yaml


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a training image.

    Attributes:
        crop_area: smallest and largest share of the image's area that a random crop keeps.
        flip: mirror left and right with probability 0.5.
        jitter: brightness, contrast and saturation are each scaled by a random factor in 1 ± jitter.
    """

    crop_area: tuple[Share, Share] = (0.08, 1.0)
    flip: bool = True
    jitter: Annotated[float, Meta(ge=0, lt=1)] = 0.0


@dataclass(frozen=True)
class Stage:
    """A part of the training with a fixed margin and resolution.

    Attributes:
        epochs: passes over the training set.
        resolution: side of the square training images, in pixels.
        margin: the loss's margin, in radians; for `cos_face` it is subtracted from the cosine.
        learning_rate: initial value of the cosine schedule, which reaches 0 at the end of the stage.
        warmup_epochs: epochs, not necessarily whole, in which the learning rate first rises linearly.
    """

    epochs: Count
    resolution: Pixels
    margin: Annotated[float, Meta(ge=0, lt=math.pi / 2)]
    learning_rate: Annotated[float, Meta(gt=0, le=100)]
    warmup_epochs: NonNegative = 0.0


@dataclass(frozen=True)
class Recipe:
    """Everything that determines a training run, except for the data and the framework.

    Attributes:
        models: the variants to train; `python -m pipeline` trains each of them in both frameworks.
        stages: the stages in order.
        batch_size: images per step, at least 2.
        head: the layers after the backbone.
        channels: the network's channel order; the 2nd place solution uses BGR.
        loss: the margin loss. `ada_cos` ignores `scale` and the stages' margins.
        scale: factor of the cosines before the softmax.
        momentum: of SGD with Nesterov momentum, which needs a momentum above 0.
        weight_decay: of convolutions, linear layers and class weights; BatchNorm, biases and GeM's exponent have none.
        gradient_clip: largest Euclidean norm of all gradients together; null switches clipping off.
        test_resolution: side in pixels to which the exported model resizes images; by default the last stage's
            resolution.
        seed: of the initial weights, the order of the images and the augmentation.
        augmentation: random changes of the training images.
    """

    models: Annotated[list[str], Meta(min_length=1)]
    stages: Annotated[list[Stage], Meta(min_length=1)]
    batch_size: Count
    head: HeadSpec = dataclasses.field(default_factory=HeadSpec)
    channels: Literal["rgb", "bgr"] = "rgb"
    loss: LossSpec = dataclasses.field(default_factory=LossSpec)
    scale: Annotated[float, Meta(gt=0, le=1000)] = 30.0
    momentum: Annotated[float, Meta(gt=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Meta(ge=0, lt=1)] = 1e-4
    gradient_clip: Positive | None = 5.0
    test_resolution: Pixels | None = None
    seed: Seed = 0
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        for name in self.models:
            self.spec(name)
            if self.models.count(name) > 1:
                raise RecipeError(f"models: {name!r} is given twice")
        if self.batch_size < 2:
            raise RecipeError("batch_size: BatchNorm needs at least 2 images, found 1")
        for number, stage in enumerate(self.stages):
            if stage.warmup_epochs > stage.epochs:
                raise RecipeError(
                    f"stages[{number}].warmup_epochs: {stage.warmup_epochs} warm-up epochs, but the stage has only "
                    f"{stage.epochs} epochs"
                )
            if (pixels := self.batch_size * stage.resolution**2) > BATCH_PIXELS:
                raise RecipeError(
                    f"batch_size, stages[{number}].resolution: {pixels:,} pixels in a batch, more than the limit of {BATCH_PIXELS:,}; "
                    "lower one of them"
                )
        low, high = self.augmentation.crop_area
        if low > high:
            raise RecipeError(f"augmentation.crop_area: expected the smaller share first, found {low} and {high}")

    @property
    def serving_resolution(self) -> int:
        """Side in pixels to which the trained model resizes images."""
        return self.test_resolution or self.stages[-1].resolution

    def spec(self, model: str) -> ModelSpec:
        """The model to train: a variant with this recipe's head, loss and preprocessing.

        Raises:
            SpecError: there is no such variant, or the head does not fit it.
        """
        variant = find_spec(model)
        preprocess = dataclasses.replace(variant.preprocess.in_order(self.channels), size=self.serving_resolution)
        return dataclasses.replace(variant, head=self.head, loss=self.loss, preprocess=preprocess)

    @property
    def digest(self) -> str:
        """sha256 of all values; a run is resumed only with the same digest."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()


def read_recipe(path: str | os.PathLike) -> Recipe:
    """Reads a recipe strictly.

    Raises:
        RecipeError: the file is missing or is not YAML; a key is unknown, missing or given twice; or a value has the
            wrong type or is out of range.
    """
    advice = "recipes/demo.yaml is an example; `python -m training.reference` lists every key and its range."
    values = read_yaml(path, error=RecipeError, advice=advice)
    try:
        return read_fields(Recipe, values, "recipe")
    except (SpecError, RecipeError) as error:
        message = str(error).rstrip(".")
        line = line_of(path, message.partition(":")[0].removeprefix("recipe.").partition(",")[0])
        raise RecipeError(f"{path}{f', line {line}' if line else ''}: {message}. {advice}") from error


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
        learning_rate: of SGD.
    """

    number: int
    stage: int
    epoch: int
    batch: int
    resolution: int
    margin: float
    learning_rate: float


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
        return Step(number, position + 1, *place, stage.resolution, stage.margin, self._rate(stage, index))

    def _rate(self, stage: Stage, index: int) -> float:
        """The learning rate of a stage's step: a linear warm-up, then a cosine."""
        total, warmup = stage.epochs * self.batches_per_epoch, round(stage.warmup_epochs * self.batches_per_epoch)
        if index < warmup:
            return stage.learning_rate * (index + 1) / warmup
        return stage.learning_rate * 0.5 * (1 + math.cos(math.pi * (index - warmup) / max(1, total - warmup)))
