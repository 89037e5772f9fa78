"""Backbones of retrieval networks in plain functions of PyTorch, with random weights, and what every head uses."""

from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from parity_tests.published.names import DEPTHS, Names

Tensors = dict[str, Tensor]
PLANES, STEM = (8, 16, 24, 32), 24
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Random:
    """Random tensors; a seed gives the same ones."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(shape, generator=self.generator) * scale

    def between(self, low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=self.generator)

    def kernel(self, outputs: int, inputs: int, size: int) -> Tensor:
        """A convolution's weight."""
        return self.normal(outputs, inputs, size, size, scale=(2 / (inputs * size**2)) ** 0.5)

    def norm(self, name: str, channels: int, mean: str = "running_mean", variance: str = "running_var") -> Tensors:
        """BatchNorm's tensors."""
        return {
            f"{name}.weight": self.between(0.5, 1.3, channels),
            f"{name}.bias": self.normal(channels, scale=0.3),
            f"{name}.{mean}": self.normal(channels, scale=0.2),
            f"{name}.{variance}": self.between(0.5, 1.5, channels),
        }


class Backbone(Protocol):
    """A small network up to its last map [N, features, H / 32, W / 32], with a random value for each of its tensors."""

    variant: str
    tensors: Tensors
    features: int

    def last_map(self, images: Tensor, *, last_stride: int = 2, ceil: bool = False) -> Tensor:
        """The last map of images float [N, 3, H, W].

        Args:
            images: normalised.
            last_stride: of the last layer's first block.
            ceil: whether the stem's pooling is not padded and keeps a last window that the edge cuts.
        """
        ...


class ResNet:
    """torchvision's ResNet of bottlenecks, whose stride is in the 3×3 convolution, or of basic blocks; with IBN-a if `ibn`.

    IBN-a (IBN-Net's resnet_ibn.py): in layers 1 to 3, instance normalisation of the first half of the channels is a part of each
    block's first BatchNorm.
    """

    def __init__(self, names: Names, random: Random, *, basic: bool = False, ibn: bool = False) -> None:
        self.variant = "resnet18" if basic else "resnet50_ibn_a" if ibn else "resnet50"
        self.names, self.random, self.tensors = names, random, {}
        self.kernels = (3, 3) if basic else (1, 3, 1)
        expansion = 1 if basic else 4
        self.features = PLANES[-1] * expansion
        self._layer(0, 0, "1", STEM, 3, 7)
        channels = STEM
        for layer, (depth, planes) in enumerate(zip(DEPTHS, PLANES, strict=True), start=1):
            for block in range(depth):
                widths = (channels, *[planes] * (len(self.kernels) - 1), planes * expansion)
                for number, kernel in enumerate(self.kernels):
                    halved = ibn and number == 0 and layer < 4
                    self._layer(layer, block, f"{number + 1}", widths[number + 1], widths[number], kernel, halved)
                if block == 0:
                    self._layer(layer, block, "", widths[-1], channels, 1)
                channels = widths[-1]

    def _layer(
        self, layer: int, block: int, number: str, outputs: int, inputs: int, kernel: int, halved: bool = False
    ) -> None:
        """A convolution and its normalisation."""
        name, norm = (self.names.module(layer, block, f"{part}{number}") for part in ("conv", "bn"))
        self.tensors[f"{name}.weight"] = self.random.kernel(outputs, inputs, kernel)
        if halved:
            self.tensors[f"{norm}.IN.weight"] = self.random.between(0.5, 1.3, outputs // 2)
            self.tensors[f"{norm}.IN.bias"] = self.random.normal(outputs // 2, scale=0.3)
            norm, outputs = f"{norm}.BN", outputs - outputs // 2
        self.tensors |= self.random.norm(norm, outputs, self.names.mean, self.names.variance)

    def last_map(self, images: Tensor, *, last_stride: int = 2, ceil: bool = False) -> Tensor:
        x = stem_pool(F.relu(self._step(images, 0, 0, "1", 2)), ceil)
        strided = self.kernels.index(3)
        for layer, depth in enumerate(DEPTHS, start=1):
            for block in range(depth):
                stride = (1, 2, 2, last_stride)[layer - 1] if block == 0 else 1
                inside = x
                for number in range(len(self.kernels)):
                    inside = F.relu(inside) if number else inside
                    inside = self._step(inside, layer, block, f"{number + 1}", stride if number == strided else 1)
                x = F.relu(inside + (self._step(x, layer, block, "", stride) if block == 0 else x))
        return x

    def _step(self, x: Tensor, layer: int, block: int, number: str, stride: int) -> Tensor:
        """A convolution and its normalisation."""
        weight = self.tensors[f"{self.names.module(layer, block, f'conv{number}')}.weight"]
        norm = self.names.module(layer, block, f"bn{number}")
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        if f"{norm}.IN.weight" not in self.tensors:
            return batch_norm(x, self.tensors, norm, self.names.mean, self.names.variance)
        first, second = x.split([len(self.tensors[f"{norm}.IN.weight"]), len(self.tensors[f"{norm}.BN.weight"])], 1)
        first = F.instance_norm(first, weight=self.tensors[f"{norm}.IN.weight"], bias=self.tensors[f"{norm}.IN.bias"])
        return torch.cat([first, batch_norm(second, self.tensors, f"{norm}.BN")], 1)


class ResNeSt:
    """ResNeSt with radix 2, a deep stem and averaging in the shortcuts (resnest/torch/resnet.py and splat.py)."""

    variant = "resnest50"

    def __init__(self, prefix: str, random: Random) -> None:
        self.prefix, self.random, self.tensors = prefix, random, {}
        self.features = PLANES[-1] * 4
        self._layer("conv1.0", "conv1.1", 8, 3, 3)
        self._layer("conv1.3", "conv1.4", 8, 8, 3)
        self._layer("conv1.6", "bn1", STEM, 8, 3)
        channels = STEM
        for layer, (depth, planes) in enumerate(zip(DEPTHS, PLANES, strict=True), start=1):
            for block in range(depth):
                name, hidden = f"layer{layer}.{block}", max(planes * 2 // 4, 32)
                self._layer(f"{name}.conv1", f"{name}.bn1", planes, channels, 1)
                self._layer(f"{name}.conv2.conv", f"{name}.conv2.bn0", planes * 2, planes // 2, 3)  # in two groups
                self._layer(f"{name}.conv2.fc1", f"{name}.conv2.bn1", hidden, planes, 1)
                self._put(f"{name}.conv2.fc1.bias", random.normal(hidden, scale=0.3))
                self._put(f"{name}.conv2.fc2.weight", random.kernel(planes * 2, hidden, 1))
                self._put(f"{name}.conv2.fc2.bias", random.normal(planes * 2, scale=0.3))
                self._layer(f"{name}.conv3", f"{name}.bn3", planes * 4, planes, 1)
                if block == 0:
                    self._layer(f"{name}.downsample.1", f"{name}.downsample.2", planes * 4, channels, 1)
                channels = planes * 4

    def _put(self, name: str, value: Tensor) -> None:
        self.tensors[f"{self.prefix}{name}"] = value

    def _layer(self, convolution: str, norm: str, outputs: int, inputs: int, kernel: int) -> None:
        self._put(f"{convolution}.weight", self.random.kernel(outputs, inputs, kernel))
        self.tensors |= self.random.norm(f"{self.prefix}{norm}", outputs)

    def last_map(self, images: Tensor, *, last_stride: int = 2, ceil: bool = False) -> Tensor:
        x = F.relu(self._step(images, "conv1.0", "conv1.1", stride=2))
        x = F.relu(self._step(x, "conv1.3", "conv1.4"))
        x = stem_pool(F.relu(self._step(x, "conv1.6", "bn1")), ceil)
        for layer, depth in enumerate(DEPTHS, start=1):
            for block in range(depth):
                name, stride = f"layer{layer}.{block}", (1, 2, 2, last_stride)[layer - 1] if block == 0 else 1
                inside = self._attention(F.relu(self._step(x, f"{name}.conv1", f"{name}.bn1")), f"{name}.conv2")
                if block == 0 and layer > 1:  # "avd": this pooling has the stride
                    inside = F.avg_pool2d(inside, 3, stride, padding=1)
                inside = self._step(inside, f"{name}.conv3", f"{name}.bn3")
                if block == 0:
                    pooled = F.avg_pool2d(x, stride, stride, ceil_mode=True, count_include_pad=False)
                    x = self._step(pooled, f"{name}.downsample.1", f"{name}.downsample.2")
                x = F.relu(inside + x)
        return x

    def _attention(self, x: Tensor, name: str) -> Tensor:
        """The two halves of a convolution's output, weighted per channel."""
        splits = F.relu(self._step(x, f"{name}.conv", f"{name}.bn0", groups=2)).chunk(2, 1)
        pooled = (splits[0] + splits[1]).mean((2, 3), keepdim=True)
        hidden = F.relu(self._step(pooled, f"{name}.fc1", f"{name}.bn1"))
        weight, bias = (self.tensors[f"{self.prefix}{name}.fc2.{part}"] for part in ("weight", "bias"))
        first, second = torch.stack(F.conv2d(hidden, weight, bias).chunk(2, 1)).softmax(0)
        return splits[0] * first + splits[1] * second

    def _step(self, x: Tensor, convolution: str, norm: str, stride: int = 1, groups: int = 1) -> Tensor:
        weight = self.tensors[f"{self.prefix}{convolution}.weight"]
        bias = self.tensors.get(f"{self.prefix}{convolution}.bias")
        x = F.conv2d(x, weight, bias, stride, weight.shape[-1] // 2, groups=groups)
        return batch_norm(x, self.tensors, f"{self.prefix}{norm}")


def stem_pool(x: Tensor, ceil: bool) -> Tensor:
    """3×3 maxima with a stride of 2: padded by one pixel, or with a last window that the edge cuts."""
    return F.max_pool2d(x, 3, 2, ceil_mode=True) if ceil else F.max_pool2d(x, 3, 2, padding=1)


def batch_norm(
    x: Tensor, tensors: Tensors, name: str, mean: str = "running_mean", variance: str = "running_var"
) -> Tensor:
    """BatchNorm by its tensors' names."""
    statistics = tensors[f"{name}.{mean}"], tensors[f"{name}.{variance}"]
    return F.batch_norm(x, *statistics, tensors[f"{name}.weight"], tensors[f"{name}.bias"], eps=1e-5)


def gem(features: Tensor, p: Tensor | float) -> Tensor:
    """Generalised mean [N, C], arXiv 1711.02512, equation 3."""
    return F.avg_pool2d(features.clamp(min=1e-6).pow(p), features.shape[-2:]).pow(1.0 / p)[:, :, 0, 0]


def unit(vectors: Tensor) -> Tensor:
    """Rows of unit norm."""
    return F.normalize(vectors, dim=1)


def normalised(pixels: np.ndarray, *, bgr: bool = False, mean: tuple = MEAN, std: tuple = STD) -> Tensor:
    """RGB pixels [N, H, W, 3] from 0 to 255 as a network's input [N, 3, H, W]; mean and std are in RGB order."""
    values = (pixels / 255 - np.array(mean)) / np.array(std)
    values = values[..., ::-1] if bgr else values
    return torch.from_numpy(np.ascontiguousarray(values.transpose(0, 3, 1, 2), np.float32))
