"""How libraries name the tensors of a backbone."""

from collections.abc import Callable
from dataclasses import dataclass

DEPTHS = (2, 1, 1, 1)
"""Blocks in layer 1 … 4 of the small networks."""


@dataclass(frozen=True)
class Names:
    """How a library names a backbone's tensors: of layer 1 … 4, of block 0 …, the part of a block, and BatchNorm's statistics.

    Parts are conv1, bn1, conv2, bn2, conv3, bn3, and conv and bn of the shortcut; of layer 0, conv1 and bn1 are the stem's.
    """

    module: Callable[[int, int, str], str]
    mean: str = "running_mean"
    variance: str = "running_var"


def torchvision(prefix: str) -> Names:
    """conv1, layer1.0.conv1, layer1.0.downsample.0."""

    def module(layer: int, block: int, part: str) -> str:
        part = {"conv": "downsample.0", "bn": "downsample.1"}.get(part, part)
        return f"{prefix}{part}" if layer == 0 else f"{prefix}layer{layer}.{block}.{part}"

    return Names(module)


def sequential(prefix: str) -> Names:
    """torchvision's modules by number: convolution 0, BatchNorm 1, layers 4 to 7."""

    def module(layer: int, block: int, part: str) -> str:
        if layer == 0:
            return f"{prefix}{0 if part == 'conv1' else 1}"
        part = {"conv": "downsample.0", "bn": "downsample.1"}.get(part, part)
        return f"{prefix}{layer + 3}.{block}.{part}"

    return Names(module)


def pycls(prefix: str) -> Names:
    """stem.conv, s1.b1.f.a, s1.b1.f.a_bn, s1.b1.proj, s1.b1.bn."""

    def module(layer: int, block: int, part: str) -> str:
        if layer == 0:
            return f"{prefix}stem.{part[:-1]}"
        inside = part
        if part[-1].isdigit():
            inside = f"f.{'abc'[int(part[-1]) - 1]}{'_bn' if part.startswith('bn') else ''}"
        return f"{prefix}s{layer}.b{block + 1}.{'proj' if inside == 'conv' else inside}"

    return Names(module)


def paddleclas(prefix: str) -> Names:
    """stem.0.conv, blocks.0.conv0.conv, blocks.0.short.bn, blocks numbered through all layers."""

    def module(layer: int, block: int, part: str) -> str:
        kind = part.rstrip("123")
        if layer == 0:
            return f"{prefix}stem.0.{kind}"
        where = "short" if kind == part else f"conv{int(part[-1]) - 1}"
        return f"{prefix}blocks.{sum(DEPTHS[: layer - 1]) + block}.{where}.{kind}"

    return Names(module, "_mean", "_variance")
