"""Where a network has its strides, which no tensor tells: what a file's configuration states, and what an import assumes."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from zoo.published.names import Naming
from zoo.specs import BackboneSpec
from zoo.variants import VARIANTS


def convolution_stride(module: str, spec: BackboneSpec) -> int:
    """The stride of a convolution of a bottleneck or a pre-activation network, by its canonical name without `backbone.`."""
    match = re.match(r"layer([1-4])\.(\d+)\.(conv[123]|downsample)", module)
    if match is None:
        return 2  # the stem's
    strided = "conv1" if spec.stride_in_first else "conv2"
    return spec.stride(int(match[1]), int(match[2])) if match[3] in (strided, "downsample") else 1


def conflicting_stride(stated: Mapping[str, Any], found: Naming, spec: BackboneSpec) -> str | None:
    """Says which convolution of the backbone has another stride in the file's configuration; None if all agree.

    Args:
        stated: {a layer's name: the stride that the configuration states}, a number or a list of two; anything in a damaged file.
        found: the names of the file.
        spec: the backbone.
    """
    if not stated:
        return None
    for theirs, ours in found.canonical.items():
        *_, layer, last = theirs.split(".")
        if layer not in stated or last != "weight" or not ours.startswith("backbone."):
            continue
        stride = convolution_stride(ours.removeprefix("backbone.").removesuffix(".weight"), spec)
        if stated[layer] not in (stride, [stride, stride]):
            return (
                f"its configuration states strides of {str(stated[layer])[:40]} for {layer}, and the model has {stride} there, so that "
                "the network is another one. If only its last layer's stride is 1, pass --last-stride 1"
            )
    return None


def assumed_stride(name: str) -> tuple[str, str] | None:
    """What choosing a variant of bottlenecks assumes of its strides, if another variant has the same tensors.

    The original ResNet has the stride in the first 1×1 convolution of a block (He et al., "Deep residual learning for image
    recognition", 2015), torchvision's in the 3×3.

    Returns:
        What is assumed, and what to do if it is wrong; None if the tensors are of this variant only.
    """
    if name not in VARIANTS:
        return None
    backbone = VARIANTS[name].backbone
    twin = replace(backbone, stride_in_first=not backbone.stride_in_first)
    other = next((other for other, row in VARIANTS.items() if row.backbone == twin), None)
    if other is None:
        return None
    first, second = (
        "first 1×1 convolution, as in Caffe's and Detectron's",
        "3×3 convolution, as in torchvision's and timm's",
    )
    mine, theirs = (first, second) if backbone.stride_in_first else (second, first)
    return (
        f"the stride of a block is in its {mine} ResNets",
        f"no tensor tells; if it is in the {theirs}, pass --model {other}",
    )


def with_strides(names: Sequence[str]) -> str:
    """Variants to choose from, for a message: with the place of their blocks' strides if that tells two of them apart."""
    first = {name: VARIANTS[name].backbone.stride_in_first for name in names}
    if len(set(first.values())) < 2:
        return " or ".join(names)
    return " or ".join(f"{name} (stride in the {'first 1×1' if first[name] else '3×3'})" for name in names)
