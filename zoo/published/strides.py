"""Where a network has its strides: what a file's configuration states of them, and what an import assumes."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from zoo.command import log
from zoo.published.names import Naming
from zoo.published.stride_evidence import Place, stride_place
from zoo.specs import BackboneSpec, ModelSpec
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


_PLACES: dict[Place, str] = {
    "first 1×1": "first 1×1 convolution, as in Caffe's and Detectron's ResNets",
    "3×3": "3×3 convolution, as in torchvision's and timm's ResNets",
}


def say_stride(file: str, spec: ModelSpec, weights: Mapping[str, np.ndarray]) -> str | None:
    """Logs what choosing a variant assumes of the strides, if another variant has the same tensors, and what the statistics say.

    The original ResNet has the stride in the first 1×1 convolution of a block (He et al., "Deep residual learning for image
    recognition", 2015), torchvision's in the 3×3.

    Args:
        file: its name.
        spec: the model that the user chose.
        weights: its tensors by canonical name.

    Returns:
        The same for the checkpoint's provenance; None if the tensors are of this variant only.
    """
    if (other := stride_twin(spec.name)) is None:
        return None
    mine, theirs = ("first 1×1", "3×3") if spec.backbone.stride_in_first else ("3×3", "first 1×1")
    assumed = f"the stride of a block is in its {_PLACES[mine]}"
    shown = stride_place(weights, spec.backbone)
    if shown is None:
        otherwise = f"no tensor tells; if it is in the {_PLACES[theirs]}, pass --model {other}"
    elif shown == mine:
        otherwise = "the means of BatchNorm agree"
    elif shown == "3×3":
        otherwise = "the means of BatchNorm show it in the 3×3"
    else:
        otherwise = "the means of BatchNorm look like a stride in the first 1×1, or like maps of odd sizes"
    log(f"{file}: assumed, as --model {spec.name} has it, that {assumed} ({otherwise})")
    if shown == theirs:
        unless = (
            "" if shown == "3×3" else " unless its training's maps had odd sizes, as those of 200 × 200 pixels have"
        )
        log(f"{file}: warning: BatchNorm's means are not those of this network; pass --model {other}{unless}")
    return f"{assumed}; {otherwise}"


def stride_twin(name: str) -> str | None:
    """The variant with the same tensors whose bottlenecks have their stride in the other place; None if there is none."""
    if name not in VARIANTS:
        return None
    backbone = VARIANTS[name].backbone
    twin = replace(backbone, stride_in_first=not backbone.stride_in_first)
    return next((other for other, row in VARIANTS.items() if row.backbone == twin), None)


def with_strides(names: Sequence[str]) -> str:
    """Variants to choose from, for a message: with the place of their blocks' strides if that tells two of them apart."""
    first = {name: VARIANTS[name].backbone.stride_in_first for name in names}
    if len(set(first.values())) < 2:
        return " or ".join(names)
    return " or ".join(f"{name} (stride in the {'first 1×1' if first[name] else '3×3'})" for name in names)
