"""How a model is trained, as data: stages in which margin and resolution rise, read from strict YAML.

The schedule is the 2nd place solution's (arXiv 2210.01624): ArcMargin with scale 30, margin and resolution raised from
stage to stage, the learning rate lowered. The margins of each stage are not published; a recipe's are its author's.
"""

import dataclasses
import hashlib
import json
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from msgspec import Meta

from zoo.errors import RecipeError, SpecError
from zoo.specs import HeadSpec, LossSpec, ModelSpec
from zoo.strict import Count, NonNegative, NonNegativeInt, Pixels, Positive, Share, read_fields
from zoo.variants import get_spec


@dataclass(frozen=True)
class Augmentation:
    """What a training image goes through.

    Attributes:
        crop_area: least and greatest share of the image that a random crop keeps.
        flip: mirror left and right half of the time.
        jitter: brightness, contrast and saturation are scaled by 1 ± this.
    """

    crop_area: tuple[Share, Share] = (0.08, 1.0)
    flip: bool = True
    jitter: Annotated[float, Meta(ge=0, lt=1)] = 0.0


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

    epochs: Count
    resolution: Pixels
    margin: Annotated[float, Meta(ge=0, lt=math.pi / 2)]
    learning_rate: Positive
    warmup_epochs: NonNegative = 0.0


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

    models: Annotated[list[str], Meta(min_length=1)]
    stages: Annotated[list[Stage], Meta(min_length=1)]
    batch_size: Count
    head: HeadSpec = dataclasses.field(default_factory=HeadSpec)
    channels: Literal["rgb", "bgr"] = "rgb"
    loss: LossSpec = dataclasses.field(default_factory=LossSpec)
    scale: Positive = 30.0
    momentum: Annotated[float, Meta(gt=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Meta(ge=0, lt=1)] = 1e-4
    gradient_clip: Positive = 5.0
    test_resolution: Pixels | None = None
    seed: NonNegativeInt = 0
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        for name in self.models:
            self.spec(name)
        for number, stage in enumerate(self.stages, start=1):
            if stage.warmup_epochs > stage.epochs:
                raise RecipeError(
                    f"stage {number}: {stage.warmup_epochs} warm-up epochs, and only {stage.epochs} epochs"
                )
        low, high = self.augmentation.crop_area
        if low > high:
            raise RecipeError(f"augmentation.crop_area: expected the smaller share first, found {low} and {high}")

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
    """Reads a recipe strictly.

    Raises:
        RecipeError: the file is missing or is not YAML, a key is unknown, missing or given twice, or a value has another
            type than its key or is out of range.
    """
    path = Path(path)
    try:
        return read_fields(Recipe, _RecipeLoader(path.read_text(encoding="utf-8-sig")).get_single_data(), "recipe")
    except FileNotFoundError as error:
        raise RecipeError(f"{path} does not exist; recipes/demo.yaml is an example") from error
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}; recipes/demo.yaml is an example") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, SpecError, RecipeError) as error:
        raise RecipeError(
            f"{path}: {error}. Correct it; `python -m training.reference` lists every key and its range."
        ) from error


class _RecipeLoader(yaml.SafeLoader):
    """YAML as its users expect it: 1e-4 is a number, and a key that is given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise RecipeError(
                    f"the key {key!r} is given twice, the second time in line {key_node.start_mark.line + 1}"
                )
            if isinstance(key, str):
                seen.add(key)
        return super().construct_mapping(node, deep)


# YAML 1.1 wants a point in a float; 1.2, JSON and everybody's habit do not.
_RecipeLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


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
