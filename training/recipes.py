"""Training recipes: stages of increasing margin and resolution, read strictly from YAML.

The schedule follows the 2nd place solution (arXiv 2210.01624): ArcMargin with scale 30, with margin and resolution
increased and the learning rate decreased from stage to stage. The margins were not published; those in recipes/ are our
own.
"""

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from msgspec import Meta

from zoo.errors import RecipeError, SpecError
from zoo.limits import BATCH_PIXELS
from zoo.lookup import find_spec
from zoo.specs import HeadSpec, LossSpec, ModelSpec
from zoo.strict import Count, NonNegative, Pixels, Positive, Seed, Share, read_fields
from zoo.weights import LOSS_PREFIX, parameter_shapes
from zoo.yaml_files import line_of, parse_yaml, read_yaml


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a training image.

    Attributes:
        crop_area: smallest and largest share of the image's area that a random crop keeps.
        flip: mirror left and right with probability 0.5.
        jitter: brightness, contrast and saturation are each scaled by a random factor in 1 ± jitter.
        lighting: deviation of random light along the principal components of ImageNet's colours (AlexNet, NIPS 2012, §4.1,
            which uses 0.1); 0 switches it off.
    """

    crop_area: tuple[Share, Share] = (0.08, 1.0)
    flip: bool = True
    jitter: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    lighting: Annotated[float, Meta(ge=0, le=1)] = 0.0


@dataclass(frozen=True)
class Stage:
    """A part of the training with a fixed margin and resolution.

    Attributes:
        epochs: passes over the training set.
        resolution: side of the square training images, in pixels.
        margin: the loss's margin, in radians; for `cos_face` it is subtracted from the cosine.
        learning_rate: its value after the warm-up.
        warmup_epochs: epochs, not necessarily whole, in which the learning rate first rises linearly.
        decay: `cosine` and `polynomial` end at 0 at the end of the stage; `step` multiplies the learning rate by `drop` after
            each of the epochs `drops`.
        power: of the polynomial; 1 is a straight line.
        drops: epochs of the stage, not necessarily whole.
        drop: the factor of each step.
        start: what the stage starts from: the `last` weights of the stage before, or their moving `average`.
    """

    epochs: Count
    resolution: Pixels
    margin: Annotated[float, Meta(ge=0, lt=math.pi / 2)]
    learning_rate: Annotated[float, Meta(gt=0, le=100)]
    warmup_epochs: NonNegative = 0.0
    decay: Literal["cosine", "polynomial", "step"] = "cosine"
    power: Annotated[float, Meta(gt=0, le=10)] = 1.0
    drops: tuple[Positive, ...] = ()
    drop: Annotated[float, Meta(gt=0, lt=1)] = 0.1
    start: Literal["last", "average"] = "last"


@dataclass(frozen=True)
class LearningRates:
    """Factors of the learning rate for the parts of a model; for fine-tuning, the backbone's is often 0.1.

    Attributes:
        backbone: the convolutions.
        head: pooling and neck.
        classes: the class weights of the loss.
    """

    backbone: NonNegative = 1.0
    head: NonNegative = 1.0
    classes: NonNegative = 1.0


@dataclass(frozen=True)
class Validation:
    """A retrieval set of classes that are not trained, on which mAP@100 is measured during training.

    Attributes:
        classes: share of the classes that is held out; those with a single image are not.
        images: at most so many of their images are used; each is searched for among all others.
        steps: measured every so many steps, and at the end of every epoch; null: only then.
    """

    classes: Annotated[float, Meta(gt=0, lt=1)]
    images: Annotated[int, Meta(ge=2, le=100_000)] = 5_000
    steps: Annotated[int, Meta(ge=1)] | None = None


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
        optimiser: `sgd` with Nesterov momentum, or `adamw` (arXiv 1711.05101).
        momentum: of SGD, above 0; AdamW's β₁.
        beta2: AdamW's β₂.
        weight_decay: of convolutions, linear layers and class weights; BatchNorm, biases and GeM's exponent have none.
        gradient_clip: largest Euclidean norm of all gradients together; null switches clipping off.
        accumulation: the batch is computed in so many parts, for less memory; BatchNorm then sees one part at a time.
        label_smoothing: share of the target that is spread over all classes.
        average: decay of the moving average of the weights, for example 0.9999; null: there is none. The average is written to a
            checkpoint of its own.
        frozen: parts that are not trained, as prefixes of tensor names: `[backbone]`, `[backbone.conv1, backbone.layer1]`.
            BatchNorm in them keeps its statistics.
        learning_rates: factors for parts of the model.
        negatives: share of the other classes that a step compares with, drawn at random (Partial FC, arXiv 2203.15565); null:
            all of them.
        batch_norm: with several processes, `own`: each normalises its part of the batch; `synchronised`: all of it.
        sampling: `images`: each image once per epoch; `classes`: each class equally often.
        validation: a retrieval set to measure during training; null: none.
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
    optimiser: Literal["sgd", "adamw"] = "sgd"
    momentum: Annotated[float, Meta(gt=0, lt=1)] = 0.9
    beta2: Annotated[float, Meta(gt=0, lt=1)] = 0.999
    weight_decay: Annotated[float, Meta(ge=0, lt=1)] = 1e-4
    gradient_clip: Positive | None = 5.0
    accumulation: Annotated[int, Meta(ge=1, le=1024)] = 1
    label_smoothing: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    average: Annotated[float, Meta(gt=0, lt=1)] | None = None
    frozen: tuple[str, ...] = ()
    learning_rates: LearningRates = dataclasses.field(default_factory=LearningRates)
    negatives: Share | None = None
    batch_norm: Literal["own", "synchronised"] = "own"
    sampling: Literal["images", "classes"] = "images"
    validation: Validation | None = None
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
            if stage.start == "average" and self.average is None:
                raise RecipeError(
                    f"stages[{number}].start: there is no average; set `average` to its decay, such as 0.999"
                )
            if (stage.decay == "step") != bool(stage.drops):
                raise RecipeError(
                    f"stages[{number}].drops: `decay: step` needs epochs to drop after, and only it has them"
                )
        if self.batch_size // self.accumulation < 2 or self.batch_size % self.accumulation:
            raise RecipeError(
                f"accumulation: batch_size {self.batch_size} cannot be computed in {self.accumulation} equal parts of at least 2 images"
            )
        for prefix in self.frozen:
            names = [name for model in self.models for name in parameter_shapes(self.spec(model))]
            if not any(_within(name, prefix) for name in names):
                raise RecipeError(f"frozen: no tensor's name starts with {prefix!r}, for example backbone.layer1")
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

    def freezes(self, name: str) -> bool:
        """Whether a tensor or a module, by its canonical name, is in a frozen part."""
        return any(_within(name, prefix) for prefix in self.frozen)

    def rate_factor(self, name: str) -> float:
        """The factor of the learning rate for a tensor."""
        if name.startswith(LOSS_PREFIX):
            return self.learning_rates.classes
        return self.learning_rates.backbone if name.startswith("backbone.") else self.learning_rates.head

    @property
    def digest(self) -> str:
        """sha256 of all values; a run is resumed only with the same digest."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()


def _within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def read_recipe(path: str | os.PathLike, changes: Sequence[str] = ()) -> Recipe:
    """Reads a recipe strictly.

    Args:
        path: a YAML file.
        changes: values that replace the file's, such as `stages.0.margin=0.3`.

    Raises:
        RecipeError: the file is missing or is not YAML; a key is unknown, missing or given twice; or a value has the
            wrong type or is out of range.
    """
    advice = "recipes/demo.yaml is an example; `python -m training.reference` lists every key and its range."
    values = read_yaml(path, error=RecipeError, advice=advice)
    for change in changes:
        _change(values, change)
    try:
        return read_fields(Recipe, values, "recipe")
    except (SpecError, RecipeError) as error:
        message = str(error).rstrip(".")
        line = line_of(path, message.partition(":")[0].removeprefix("recipe.").partition(",")[0])
        raise RecipeError(f"{path}{f', line {line}' if line else ''}: {message}. {advice}") from error


def _change(values: Any, change: str) -> None:
    """Sets a value of a recipe that was read, in place.

    Raises:
        RecipeError: it is not of the form KEY=VALUE, or a key before the last one leads nowhere.
    """
    path, equals, text = change.partition("=")
    advice = "Write it as KEY=VALUE, for example stages.0.margin=0.3 or augmentation.flip=false."
    if not equals or not path.strip():
        raise RecipeError(f"--set {change}: expected KEY=VALUE. {advice}")
    *parents, last = path.strip().split(".")
    place = values
    for key in parents:
        if isinstance(place, dict):
            place = place.setdefault(key, {})
        elif isinstance(place, list) and key.isdecimal() and int(key) < len(place):
            place = place[int(key)]
        else:
            raise RecipeError(f"--set {change}: {key!r} leads nowhere in the recipe. {advice}")
    value = parse_yaml(text, f"--set {change}", error=RecipeError, advice=advice)
    if isinstance(place, dict):
        place[last] = value
    elif isinstance(place, list) and last.isdecimal() and int(last) < len(place):
        place[int(last)] = value
    else:
        raise RecipeError(f"--set {change}: {last!r} leads nowhere in the recipe. {advice}")
