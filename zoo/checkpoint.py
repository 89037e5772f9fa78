"""The checkpoint format of both frameworks: a safetensors file whose header contains the spec and the provenance.

Reading never executes anything. The names, shapes, dtypes and values of the tensors are checked against the spec.
"""

import dataclasses
import hashlib
import json
import math
import os
from dataclasses import dataclass

import numpy as np

from zoo.errors import CheckpointError, DataError, SpecError
from zoo.specs import ModelSpec, PreprocessSpec, told_apart
from zoo.strict import read_fields
from zoo.tensors import read_tensors, write_tensors
from zoo.text import parse_json
from zoo.weights import Shape, parameter_shapes

FORMAT = "landmark-zoo-checkpoint-1"
_LARGEST = 1e12
"""Of any weight. Real ones are below 1e6; a network with larger ones overflows."""
_EXPONENTS = (0.01, 100.0)
"""Of GeM. Trained ones are between 1 and 20; beyond these, the powers of usual features overflow."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained model, independent of the framework.

    Attributes:
        spec: the model.
        weights: float32 arrays by canonical name (`zoo.weights.parameter_shapes`).
        classes: classes of the margin loss; 0 if the checkpoint has no class weights.
        provenance: where the weights came from (`framework`, `version`, `recipe`, `steps` …), as JSON values.
    """

    spec: ModelSpec
    weights: dict[str, np.ndarray]
    classes: int
    provenance: dict


def save_checkpoint(path: str | os.PathLike, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint atomically.

    Raises:
        CheckpointError: the weights do not fit the spec, or some are not finite.
        OutputError: the disk is full or the folder cannot be written.
    """
    check_weights(checkpoint.spec, checkpoint.weights, checkpoint.classes, source=str(path))
    header = {
        "format": FORMAT,
        "spec": json.dumps(checkpoint.spec.to_dict()),
        "classes": str(checkpoint.classes),
        "provenance": json.dumps(checkpoint.provenance),
    }
    write_tensors(path, checkpoint.weights, header)


def load_checkpoint(path: str | os.PathLike) -> Checkpoint:
    """Reads and checks a checkpoint.

    Raises:
        CheckpointError: the file is not a landmark-zoo checkpoint, its tensors are not exactly the spec's, or a value
            is not finite.
    """
    weights, header = read_tensors(path)
    if header.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is a safetensors file but not a landmark-zoo checkpoint: expected format {FORMAT!r} in its header, "
            f"found {header.get('format')!r}. Make one with `python -m torch_models.train` or `python -m paddle_models.train`."
        )
    try:
        spec = ModelSpec.from_dict(parse_json(header["spec"], "its spec"))
        classes, provenance = (
            parse_json(header["classes"], "its classes"),
            parse_json(header["provenance"], "its provenance"),
        )
        if type(classes) is not int or classes < 0 or not isinstance(provenance, dict):
            raise SpecError(
                f"expected classes as a number from 0 and provenance as a mapping, found {header['classes'][:20]}"
            )
    except (KeyError, SpecError, DataError) as error:
        raise CheckpointError(
            f"{path}: its header does not parse: {error}. Copy the file again, or train again."
        ) from error
    check_weights(spec, weights, classes, source=str(path))
    return Checkpoint(spec, weights, classes, provenance)


def check_weights(spec: ModelSpec, weights: dict[str, np.ndarray], classes: int, source: str) -> None:
    """Raises `CheckpointError` unless the spec can be read again, names, shapes and dtypes are exactly its, and values are possible."""
    check_preprocess(spec.preprocess, source)
    try:
        ModelSpec.from_dict(spec.to_dict())
    except SpecError as error:
        raise CheckpointError(f"{source}: {error}.") from error
    # A spec may claim any number of blocks, and each has tensors.
    if (blocks := sum(spec.backbone.depths) * spec.backbone.scale) > len(weights):
        raise CheckpointError(
            f"{source} has {len(weights)} tensors, which cannot be the {blocks:,} blocks of its spec."
        )
    if found := differences(parameter_shapes(spec, classes), weights):
        raise CheckpointError(
            f"{source} does not contain the tensors of {spec.name} with {classes} classes:\n  {shown(found)}\n"
            "Use the model that the weights were trained for, or train this one."
        )
    for name, value in weights.items():
        if reason := unusable(name, value):
            raise CheckpointError(
                f"{source}: {name} {reason}. If training made it, it diverged: lower the learning rate and train again, or use an "
                "earlier checkpoint."
            )


def unusable(name: str, value: np.ndarray) -> str | None:
    """Why a tensor of this canonical name cannot have these values, or None.

    A value that is not finite, a negative variance and an exponent of GeM that is not positive make descriptors NaN.
    """
    if not np.isfinite(value).all():
        return f"contains {np.count_nonzero(~np.isfinite(value))} values that are not finite (NaN or infinity)"
    if name.endswith(".running_var") and (value < 0).any():
        return f"contains {np.count_nonzero(value < 0)} negative variances"
    if name in ("pool.p", "pool.gem.p"):
        if (value <= 0).any():
            return "is an exponent of GeM that is not positive"
        if (value < _EXPONENTS[0]).any() or (value > _EXPONENTS[1]).any():
            return f"is an exponent of GeM outside of {_EXPONENTS[0]} to {_EXPONENTS[1]}"
    if value.size and np.abs(value).max() > _LARGEST:
        return f"contains values above {_LARGEST:.0e}"
    return None


def check_preprocess(preprocess: PreprocessSpec, source: str = "preprocessing") -> None:
    """Raises `CheckpointError` unless every value is in its range, with mean and deviation for pixels from 0 to 1.

    Both are often published for pixels from 0 to 255, and a network that is given such values computes nothing of use.
    """
    try:
        read_fields(PreprocessSpec, dataclasses.asdict(preprocess), "preprocessing")
    except SpecError as error:
        raise CheckpointError(f"{source}: {error}.") from error
    mean, std = preprocess.mean, preprocess.std
    if not all(0 <= value <= 1 for value in mean) or not all(1e-3 <= value <= 1 for value in std):
        raise CheckpointError(
            f"{source}: mean {list(mean)} and std {list(std)} are not for pixels from 0 to 1: expected means from 0 to 1 and "
            f"standard deviations from 0.001 to 1.{_for_255(mean, std)}"
        )


def _for_255(mean: tuple[float, ...], std: tuple[float, ...]) -> str:
    """What to give instead, if the values look like those for pixels from 0 to 255.

    Caffe's networks divide by nothing, so that their deviation of 1 is of the same pixels as their mean.
    """
    if not all(0 <= value <= 255 for value in (*mean, *std)):
        return ""
    large = {"mean": max(mean) > 1, "std": max(std) > 1 or (max(mean) > 1 and set(std) == {1.0})}
    given = {"mean": mean, "std": std}
    words = [f"--{key} " + " ".join(f"{value / 255:.4g}" for value in given[key]) for key in given if large[key]]
    return f" They look like values for pixels from 0 to 255: divide by 255, {' '.join(words)}." if words else ""


def weight_bytes(spec: ModelSpec, classes: int = 0) -> int:
    """Bytes of a model's tensors in a checkpoint; with the loss's if `classes` is not 0."""
    return sum(4 * math.prod(shape) for shape in parameter_shapes(spec, classes).values())


def kernel_bytes(spec: ModelSpec, *, half: bool = False) -> int:
    """Bytes that an exported network has at the least: its weights, after BatchNorm was folded into them.

    Args:
        spec: the model.
        half: stored as float16.
    """
    shapes = (shape for shape in parameter_shapes(spec).values() if len(shape) > 1)
    return (2 if half else 4) * sum(map(math.prod, shapes))


def differences(
    expected: dict[str, Shape], weights: dict[str, np.ndarray], names: dict[str, str] | None = None
) -> list[str]:
    """One line per tensor that differs from the expected ones.

    Args:
        expected: shapes by canonical name.
        weights: the tensors found.
        names: the names in the file they were read from, by canonical name, if they differ.

    Returns:
        Sorted lines that start with "-" (missing), "!" (another shape or dtype) or "+" (not part of the model).
    """
    called = {ours: f" (the file's {theirs})" for ours, theirs in (names or {}).items() if theirs != ours}
    found = [f"- {name} {list(expected[name])} is missing" for name in expected if name not in weights]
    for name, value in weights.items():
        if name not in expected:
            found.append(f"+ {name} {list(value.shape)} is not part of this model{called.get(name, '')}")
        elif tuple(value.shape) != expected[name]:
            whose = called.get(name, "")
            found.append(f"! {name}: expected {list(expected[name])}, found {list(value.shape)}{whose}")
        elif value.dtype != np.float32:
            found.append(f"! {name}: expected float32, found {value.dtype}")
    return sorted(found)


def shown(found: list[str], most: int = 5) -> str:
    """The lines of `differences` as text, with at most `most` of each kind."""
    lines = []
    for kind in "-!+":
        own = [line for line in found if line.startswith(kind)]
        lines += own[:most] + ([f"{kind} … and {len(own) - most} more"] if len(own) > most else [])
    return "\n  ".join(lines)


def fingerprint(checkpoint: Checkpoint) -> str:
    """sha256 of the spec and all weights; equal for equal models, regardless of file layout and provenance."""
    digest = hashlib.sha256(json.dumps(told_apart(checkpoint.spec), sort_keys=True).encode())
    for name in sorted(checkpoint.weights):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(checkpoint.weights[name]).tobytes())
    return digest.hexdigest()
