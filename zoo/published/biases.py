"""Biases of convolutions that BatchNorm follows: they are a part of its mean."""

import re
from collections.abc import Container, Mapping

import numpy as np

from zoo.published.files import as_float32
from zoo.specs import BackboneSpec


def fold_biases(
    weights: dict[str, np.ndarray],
    names: dict[str, str],
    spec: BackboneSpec,
    expected: Mapping[str, tuple[int, ...]],
    framework: str,
) -> int:
    """Moves the biases of convolutions into the means of the BatchNorms that follow, in place.

    Args:
        weights: tensors by canonical name; a bias may have any type that `as_float32` reads, the means are float32.
        names: {canonical name: the file's name}, from which the biases are removed too.
        spec: the backbone.
        expected: the shapes of the model's own tensors.
        framework: that laid out the tensors, `torch` or `paddle`.

    Returns:
        How many biases were moved.

    Raises:
        CheckpointError: a bias has a type that cannot be weights.
    """
    count = 0
    for name in list(weights):
        mean = mean_behind(name, spec, expected)
        if mean and mean in weights and weights[name].shape == weights[mean].shape == expected[mean]:
            bias = as_float32(names.pop(name), weights.pop(name), framework)
            weights[mean] = mean_without_bias(weights[mean], bias)
            count += 1
    return count


def mean_behind(name: str, spec: BackboneSpec, expected: Container[str]) -> str | None:
    """The canonical name of the mean that takes a convolution's bias in; None if it is no such bias.

    Args:
        name: the canonical name of a tensor.
        spec: the backbone.
        expected: the names of the model's own tensors; a bias among them stays.
    """
    if name in expected or spec.block not in ("basic", "bottleneck"):
        return None
    match = re.fullmatch(r"(backbone\.(?:layer[1-4]\.\d+\.)?)(?:conv([123])|downsample\.0)\.bias", name)
    if match is None:
        return None
    mean = f"{match[1]}{f'bn{match[2]}' if match[2] else 'downsample.1'}.running_mean"
    return mean if mean in expected else None


def mean_without_bias(mean: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """BatchNorm's mean, float32 [C], if its input lacks the bias: BN(x + bias) with one mean is BN(x) with the other."""
    return (mean.astype(np.float64) - bias.astype(np.float64)).astype(np.float32)
