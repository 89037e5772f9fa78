"""Biases of convolutions that BatchNorm follows: they are a part of its mean."""

import re
from collections.abc import Container

import numpy as np

from zoo.specs import BackboneSpec


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
