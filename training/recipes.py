"""How a model is trained, as data: stages in which margin and resolution rise, read from strict YAML.

The schedule is the 2nd place solution's (arXiv 2210.01624): ArcMargin with scale 30, margin and resolution raised from
stage to stage, the learning rate lowered. The margins of each stage are not published; a recipe's are its author's.
"""

import dataclasses
import hashlib
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from zoo.errors import RecipeError, SpecError
from zoo.specs import HeadSpec, LossSpec, ModelSpec, read_fields
from zoo.variants import get_spec


@dataclass(frozen=True)
class Augmentation:
    """What a training image goes through.

    Attributes:
        crop_area: least and greatest share of the image that a random crop keeps.
        flip: mirror left and right half of the time.
        jitter: brightness, contrast and saturation are scaled by 1 ± this.
    """

    crop_area: tuple[float, float] = (0.08, 1.0)
    flip: bool = True
    jitter: float = 0.0


@dataclass(frozen=True)
class Stage:
    """A part of the training with one margin and one resolution.

    Attributes:
        epochs: passes over the training set.
        resolution: side of the square training images, in pixels.
        margin: the loss'; in radians, for CosFace in cosines.
        learning_rate: the cosine schedule's start; it ends at 0 with the stage.
        warmup_epochs: the learning rate rises linearly for that long first.
    """

    epochs: int
    resolution: int
    margin: float
    learning_rate: float
    warmup_epochs: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a training run computes, but for the data and the framework.

    Attributes:
        models: variants that this recipe is for; `python -m pipeline` trains each of them in both frameworks.
        stages: in their order.
        batch_size: images a step.
        head: what stands behind the backbone.
        channels: the order in which the network reads a pixel's; the 2nd place solution's is BGR.
        loss: the margin loss; AdaCos alone takes neither margin nor scale.
        scale: of the cosines.
        momentum: of SGD, in Nesterov's form.
        weight_decay: on convolutions, linear and class weights; not on BatchNorm, biases and GeM's exponent.
        gradient_clip: greatest Euclidean norm of all gradients together.
        test_resolution: what the exported model resizes images to; by default the last stage's resolution.
        seed: of the first weights, the order of images and the augmentation.
        augmentation: of training images.
    """

    models: list[str]
    stages: list[Stage]
    batch_size: int
    head: HeadSpec = dataclasses.field(default_factory=HeadSpec)
    channels: Literal["rgb", "bgr"] = "rgb"
    loss: LossSpec = dataclasses.field(default_factory=LossSpec)
    scale: float = 30.0
    momentum: float = 0.9
    weight_decay: float = 1e-4
    gradient_clip: float = 5.0
    test_resolution: int | None = None
    seed: int = 0
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        if not self.models or not self.stages:
            raise RecipeError("a recipe needs at least one model and one stage")
        for name in self.models:
            self.spec(name)
        for number, stage in enumerate(self.stages, start=1):
            if not (
                0 <= stage.margin < math.pi / 2 and stage.learning_rate > 0 and 0 <= stage.warmup_epochs <= stage.epochs
            ):
                raise RecipeError(
                    f"stage {number}: expected a margin from 0 to below π/2, a learning rate above 0 and warm-up within its "
                    f"epochs; found {stage}"
                )
        low, high = self.augmentation.crop_area
        if not (0 < low <= high <= 1 and 0 <= self.augmentation.jitter < 1):
            raise RecipeError(f"expected 0 < crop_area ≤ 1 and 0 ≤ jitter < 1, found {self.augmentation}")

    @property
    def serving_resolution(self) -> int:
        """Side in pixels that the trained model resizes images to."""
        return self.test_resolution or self.stages[-1].resolution

    def spec(self, model: str) -> ModelSpec:
        """A variant with this recipe's head, loss and preprocessing: the model that training makes.

        Raises:
            SpecError: no such variant, or a head that does not fit it.
        """
        variant = get_spec(model)
        preprocess = dataclasses.replace(variant.preprocess.in_order(self.channels), size=self.serving_resolution)
        return dataclasses.replace(variant, head=self.head, loss=self.loss, preprocess=preprocess)

    @property
    def digest(self) -> str:
        """sha256 of every value: a resumed run must have the same."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()


def read_recipe(path: str | os.PathLike) -> Recipe:
    """Reads a recipe strictly: an unknown key is an error, never ignored.

    Raises:
        RecipeError: not YAML, an unknown or missing key, or a value out of range.
    """
    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        return read_fields(Recipe, values, "recipe")
    except FileNotFoundError as error:
        raise RecipeError(f"{path} does not exist; recipes/demo.yaml is an example") from error
    except (yaml.YAMLError, UnicodeDecodeError, SpecError, RecipeError) as error:
        raise RecipeError(f"{path}: {error}. Correct it; recipes/demo.yaml shows every key.") from error


@dataclass(frozen=True)
class Step:
    """One step of a schedule: where it stands and what it is trained with."""

    number: int
    stage: int
    epoch: int
    batch: int
    resolution: int
    margin: float
    learning_rate: float


def schedule(recipe: Recipe, batches_per_epoch: int) -> list[Step]:
    """Every step of a run, in order; epochs are counted through all stages."""
    steps, epoch = [], 0
    for stage_number, stage in enumerate(recipe.stages, start=1):
        total = stage.epochs * batches_per_epoch
        warmup = round(stage.warmup_epochs * batches_per_epoch)
        for index in range(total):
            if index < warmup:
                rate = stage.learning_rate * (index + 1) / warmup
            else:
                rate = stage.learning_rate * 0.5 * (1 + math.cos(math.pi * (index - warmup) / max(1, total - warmup)))
            place = epoch + index // batches_per_epoch, index % batches_per_epoch
            steps.append(Step(len(steps), stage_number, *place, stage.resolution, stage.margin, rate))
        epoch += stage.epochs
    return steps
