"""Where a bottleneck's stride is: two networks have the same tensors, and BatchNorm's statistics tell them apart.

The original ResNet has the stride in the first 1×1 convolution of a block, torchvision's in the 3×3. Then the 3×3 convolution reads
pixels that are two apart, or neighbours, which are more alike: the variance of each of its channels differs. The stored variances are
compared with those that a few synthetic pictures cause with the stride in either place.
"""

import functools
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from zoo.constants import BATCH_NORM_EPSILON
from zoo.specs import BackboneSpec

SURE = 0.25
"""The evidence that counts. For four small networks that were trained on photographs, two with either stride, it was -0.5, 0.1, 1.0 and
0.7 with these pictures, and never larger on the wrong side with others."""
_SIZE, _PICTURES = 128, 8
_OUTLIER = 1.5
"""Logarithms beyond which a variance is not off further: some channels hardly fire."""
_FALL = 1.3
"""The exponent of the frequency by which a picture's amplitudes fall."""


def stride_evidence(weights: Mapping[str, np.ndarray], spec: BackboneSpec) -> float:
    """Where the stored statistics say that the stride is: about 1 for the 3×3 convolution, about -1 for the first 1×1.

    Both places predict the variance of each channel behind the 3×3 convolutions of the strided blocks. The stored variance of a
    channel lies nearer to one of them, and further from both by what the training's pictures were like. Over all channels, the
    regression of the one on the other finds the place. Between -`SURE` and `SURE` the statistics do not tell; so they do if the
    weights are so large that the network overflows, which gives NaN.

    Args:
        weights: float32 arrays by canonical name without `backbone.`.
        spec: a backbone of bottlenecks; where it has its stride does not matter.
    """
    with np.errstate(all="ignore"):
        stem = _stem(weights, pictures())
        first, second = (_variances(weights, replace(spec, stride_in_first=place), stem) for place in (True, False))
        apart, off = [], []
        for name, one in first.items():
            other, stored = second[name], np.log(weights[f"{name}.running_var"] + BATCH_NORM_EPSILON)
            apart.append((other - one) / 2)
            off.append(stored - (one + other) / 2)
        apart, off = (np.concatenate([value - np.median(value) for value in values]) for values in (apart, off))
        return float(np.clip(off, -_OUTLIER, _OUTLIER) @ apart / (apart @ apart))


def pictures(seed: int = 0) -> np.ndarray:
    """Synthetic pictures float32 [8, 3, 128, 128], normalised: noise whose spectrum falls about as that of photographs."""
    random = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(_SIZE)[:, None], np.fft.rfftfreq(_SIZE)[None])
    frequency[0, 0] = 1 / _SIZE
    real, imaginary = random.normal(size=(2, _PICTURES, 4, *frequency.shape)) / frequency**_FALL
    noise = np.fft.irfft2(real + 1j * imaginary, s=(_SIZE, _SIZE))
    colours = 0.9 * noise[:, :1] + 0.35 * noise[:, 1:]  # the channels of a photograph are much alike
    return (colours / colours.std((1, 2, 3), keepdims=True)).astype(np.float32)


def _variances(weights: Mapping[str, np.ndarray], spec: BackboneSpec, features: np.ndarray) -> dict[str, np.ndarray]:
    """{name of a strided block's second BatchNorm: logarithm of the variances [C] of its input}."""
    found = {}
    for layer in range(1, 5):
        for index in range(spec.depths[layer - 1] if layer < 4 else 1):
            name = f"layer{layer}.{index}"
            features, variance = _block(weights, name, spec, spec.stride(layer, index), features)
            if layer > 1 and index == 0:
                found[f"{name}.bn2"] = np.log(variance + BATCH_NORM_EPSILON)
    return found


def _block(
    weights: Mapping[str, np.ndarray], name: str, spec: BackboneSpec, stride: int, features: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A bottleneck's output, normalised by the batch's own statistics, and the variance behind its 3×3 convolution."""
    first, second = (stride, 1) if spec.stride_in_first else (1, stride)
    residual = np.maximum(
        _normalised(weights, f"{name}.bn1", _convolved(features, weights[f"{name}.conv1.weight"], first)), 0
    )
    middle = _convolved(residual, weights[f"{name}.conv2.weight"], second)
    variance = middle.var((0, 2, 3), dtype=np.float64)
    residual = np.maximum(_normalised(weights, f"{name}.bn2", middle), 0)
    residual = _normalised(weights, f"{name}.bn3", _convolved(residual, weights[f"{name}.conv3.weight"], 1))
    shortcut = features
    if f"{name}.downsample.0.weight" in weights:
        shortcut = _convolved(features, weights[f"{name}.downsample.0.weight"], stride)
        shortcut = _normalised(weights, f"{name}.downsample.1", shortcut)
    return np.maximum(residual + shortcut, 0), variance


def _stem(weights: Mapping[str, np.ndarray], images: np.ndarray) -> np.ndarray:
    """The stem's output, its maximum pooling included."""
    features = np.maximum(_normalised(weights, "bn1", _convolved(images, weights["conv1.weight"], 2)), 0)
    height, width = (-(-side // 2) for side in features.shape[2:])
    padded = np.pad(features, ((0, 0), (0, 0), (1, 2), (1, 2)))
    shifted = (padded[:, :, y : y + 2 * height : 2, x : x + 2 * width : 2] for y in range(3) for x in range(3))
    return functools.reduce(np.maximum, shifted)


def _convolved(features: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """[N, C, H, W] by [O, C, K, K], padded by half the kernel."""
    outputs, inputs, size, _ = kernel.shape
    height, width = (-(-side // stride) for side in features.shape[2:])
    padded = np.pad(features, ((0, 0), (0, 0), (size // 2,) * 2, (size // 2,) * 2)) if size > 1 else features
    shifted = (
        padded[
            :, :, row : row + stride * (height - 1) + 1 : stride, column : column + stride * (width - 1) + 1 : stride
        ]
        for row in range(size)
        for column in range(size)
    )
    # One matrix product for all offsets: [O, K·K·C] by [K·K·C, H·W].
    columns = np.concatenate([part.reshape(len(features), inputs, -1) for part in shifted], axis=1)
    rows = np.ascontiguousarray(kernel.transpose(0, 2, 3, 1)).reshape(outputs, -1)
    return np.matmul(rows, columns).reshape(len(features), outputs, height, width)


def _normalised(weights: Mapping[str, np.ndarray], name: str, features: np.ndarray) -> np.ndarray:
    """BatchNorm by the statistics of these features, in place: what differs from the training's pictures does not add up."""
    rows = features.reshape(*features.shape[:2], -1)
    mean = rows.mean((0, 2), keepdims=True)
    rows -= mean
    variance = np.einsum("ncs,ncs->c", rows, rows) / (rows.shape[0] * rows.shape[2])
    rows *= (weights[f"{name}.weight"] / np.sqrt(variance + BATCH_NORM_EPSILON)).astype(np.float32)[None, :, None]
    rows += weights[f"{name}.bias"][None, :, None]
    return features
