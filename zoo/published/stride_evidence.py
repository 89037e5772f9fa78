"""Where bottlenecks have their stride, as the means that BatchNorm stored show it: no picture is needed.

The original ResNet has the stride in the first 1×1 convolution of a block, torchvision's in the 3×3; the tensors are the same. A 3×3
convolution pads its input with a row of zeros above and one below. With a stride of 1, its upper weights meet zeros at one of H rows,
and so do its lower weights. With a stride of 2 and an even height, only the upper weights do: the lower ones end at the last row.
Left and right are alike. What meets zeros is missing from the mean of the output, which BatchNorm stored. The mean of the input is that
of a normal distribution, with the scale and the shift of the BatchNorm before, behind a ReLU. So a linear regression over the output
channels finds which share of the rows is missing above and which below.

A share that is missing above only shows a stride of 2. One that is missing below as well shows a stride of 1 if the maps had even
heights in training; maps of 25 rows, as images of 200 pixels have them, leave a row of zeros below with a stride of 2 too.
"""

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np

from zoo.specs import BackboneSpec

Place = Literal["3×3", "first 1×1"]
_CLEAR = 4.0
"""Standard errors by which a share must differ from what it is compared with."""
_SYMMETRIC = 0.3
"""The least ratio of the shares below and above, in blocks without a stride, with which a layer is judged: the rows at a picture's edges
differ from each other, and change both."""
_USED = 1e-3
"""The size of a kernel, as a share of the median's, below which it is left out."""


def stride_place(weights: Mapping[str, np.ndarray], spec: BackboneSpec) -> Place | None:
    """The convolution that has the stride of the blocks; None if the means do not tell.

    "3×3" is sure. "first 1×1" is so only if the maps had even heights and widths in training.

    Args:
        weights: float32 arrays by canonical name.
        spec: a backbone of bottlenecks with a ReLU; `stride_in_first` does not matter.
    """
    with np.errstate(all="ignore"):
        found = {_layer(weights, spec, layer) for layer in (2, 3, 4) if spec.stride(layer, 0) == 2}
    return next((place for place in ("3×3", "first 1×1") if place in found), None)


def _layer(weights: Mapping[str, np.ndarray], spec: BackboneSpec, layer: int) -> Place | None:
    """What the first block of a layer shows, compared with the blocks that have no stride in either case."""
    try:
        shares, covariance = _missing(weights, f"backbone.layer{layer}.0")
        others = [_missing(weights, f"backbone.layer{layer}.{index}")[0] for index in range(1, spec.depths[layer - 1])]
    except np.linalg.LinAlgError:  # the weights are damaged, or statistics were never stored
        return None
    above, below = np.sum(others, axis=0) if others else (1.0, 1.0)
    if not shares[0] > _CLEAR * np.sqrt(covariance[0, 0]) or not below > _SYMMETRIC * above > 0:
        return None
    halfway = np.array([-min(1.0, below / above) / 2, 1])
    beyond = halfway @ shares / np.sqrt(halfway @ covariance @ halfway)
    if beyond <= -_CLEAR:
        return "3×3"
    return "first 1×1" if beyond >= _CLEAR else None


def _missing(weights: Mapping[str, np.ndarray], block: str) -> tuple[np.ndarray, np.ndarray]:
    """The shares of rows that are missing above and below in a block's 3×3 convolution.

    Returns:
        The shares float64 [2], and their covariance [2, 2].
    """
    inputs = _rectified_means(weights[f"{block}.bn1.weight"], weights[f"{block}.bn1.bias"])
    kernels = np.einsum("ochw,c->ohw", weights[f"{block}.conv2.weight"].astype(np.float64), inputs)
    whole, above = kernels.sum((1, 2)), kernels[:, 0].sum(1) + kernels[:, :, 0].sum(1)
    below = kernels[:, 2].sum(1) + kernels[:, :, 2].sum(1)
    # A channel's mean is as uncertain as its kernel is large. Channels that training has switched off hold nothing but rounding.
    size = np.sqrt((kernels**2).sum((1, 2)))
    used = size > _USED * np.median(size)
    predictors = (np.stack([whole, -above, -below]) / size).T[used]
    means = (weights[f"{block}.bn2.running_mean"] / size)[used]
    inverse = np.linalg.inv(predictors.T @ predictors)
    factors = inverse @ predictors.T @ means
    residual = means - predictors @ factors
    variance = residual @ residual / (len(means) - len(factors))
    return factors[1:] / factors[0], inverse[1:, 1:] * variance / factors[0] ** 2


def _rectified_means(scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """The mean float64 [C] of a normal distribution behind a ReLU; BatchNorm's scale is its deviation, and the shift its mean."""
    deviation, mean = np.maximum(np.abs(scale.astype(np.float64)), 1e-12), shift.astype(np.float64)
    ratio = mean / deviation
    below = np.array([math.erfc(value / math.sqrt(2)) / 2 for value in ratio])
    return mean * (1 - below) + deviation * np.exp(-(ratio**2) / 2) / math.sqrt(2 * math.pi)
