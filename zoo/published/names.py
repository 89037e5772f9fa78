"""Maps the tensor names of published checkpoints to canonical names.

torchvision, timm, ResNeSt, Res2Net, IBN-Net and `paddle.vision` share one scheme: canonical names without `backbone.`.
PaddleClas has three more, for ResNet (`blocks.3.conv0.conv.weight`), for ResNeSt
(`layer1.layer1_bottleneck_0.conv2.conv1._conv.weight`) and for Res2Net (`bb_0_1.res2b_branch2b_1._conv.weight`).
"""

import re
from collections.abc import Iterable

from zoo.specs import BackboneSpec

CLASSIFIERS = ("fc", "out", "head", "classifier", "last_linear")
"""Names of the classifier that follows a published backbone."""
_CANONICAL = ("backbone.", "pool.", "neck.", "arc_margin.")
"""Prefixes of canonical names."""
_WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes that PyTorch's parallel and compiled modules add to every name."""
_STATISTICS = {"_mean": "running_mean", "_variance": "running_var"}


def canonical_name(name: str, spec: BackboneSpec) -> str | None:
    """The canonical name of a published tensor.

    A name of an unknown scheme is only prefixed with `backbone.`; a tensor that the zoo does not keep gives None.
    """
    name = _unwrapped(name)
    module, _, last = name.rpartition(".")
    if last == "num_batches_tracked":
        return None
    last = _STATISTICS.get(last, last)
    if name.startswith(_CANONICAL):
        # Paddle calls the weight of instance normalisation `scale`.
        return f"{module}.{'weight' if last == 'scale' else last}"
    if module.split(".")[0] in CLASSIFIERS:
        return name
    for grammar in _PADDLECLAS:
        if (found := grammar(module, spec)) is not None:
            return f"backbone.{found}.{last}"
    return f"backbone.{module}.{last}"


def publishers(names: Iterable[str], spec: BackboneSpec) -> set[str] | None:
    """The libraries that use these tensor names, as `Variant.equals` spells them; None if the names are canonical.

    Names matter because networks with the same tensors may differ in what they compute: PaddleClas' average poolings do
    not count padding.
    """
    plain = [_unwrapped(name) for name in names]
    if any(name.startswith(_CANONICAL) for name in plain):
        return None
    modules = {name.rpartition(".")[0] for name in plain}
    if any(grammar(module, spec) for module in modules for grammar in _PADDLECLAS):
        return {"PaddleClas"}
    return {"timm", "torchvision", "paddle.vision", "ResNeSt", "IBN-Net"}


def _unwrapped(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = name.removeprefix(wrapper)
    return name


def is_classifier(name: str) -> bool:
    """Whether a canonical name belongs to what follows the backbone: a published classifier, or the zoo's head and loss."""
    return name.split(".")[0] in (*CLASSIFIERS, "pool", "neck", "arc_margin")


def canonical_names(names: Iterable[str], spec: BackboneSpec) -> dict[str, str]:
    """{published name: canonical name} of every tensor that the zoo keeps."""
    found = {name: canonical_name(name, spec) for name in names}
    return {name: ours for name, ours in found.items() if ours is not None}


def _stem(index: int, part: str, spec: BackboneSpec) -> str:
    """The stem's convolution or BatchNorm number 0, 1 or 2."""
    last = 0 if spec.stem == "conv7x7" else 2
    if part == "bn" and index == last:
        return "bn1"
    return "conv1" if last == 0 == index else f"conv1.{3 * index + (part == 'bn')}"


def _shortcut(part: str, spec: BackboneSpec) -> str:
    first = 1 if spec.shortcut == "avg_conv" else 0
    return f"downsample.{first if part == 'conv' else first + 1}"


def _resnet_paddleclas(module: str, spec: BackboneSpec) -> str | None:
    """`stem.0.bn`, `blocks.3.conv0.conv`, `blocks.3.short.bn`: blocks are numbered through all layers."""
    if match := re.fullmatch(r"stem\.([0-2])\.(conv|bn)", module):
        return _stem(int(match[1]), match[2], spec)
    match = re.fullmatch(r"blocks\.(\d+)\.(?:conv([0-2])|short)\.(conv|bn)", module)
    if match is None:
        return None
    layer, index = 1, int(match[1])
    while layer < 4 and index >= spec.depths[layer - 1]:
        index, layer = index - spec.depths[layer - 1], layer + 1
    part = _shortcut(match[3], spec) if match[2] is None else f"{match[3]}{int(match[2]) + 1}"
    return f"layer{layer}.{index}.{part}"


_NORMALISED = {"_conv": "conv", "_batch_norm": "bn"}


def _resnest_paddleclas(module: str, spec: BackboneSpec) -> str | None:
    """`stem.conv1._conv`, `layer1.layer1_bottleneck_0.conv2.conv1._conv`; conv4 and _batch_norm are the shortcut."""
    if match := re.fullmatch(r"stem\.conv([1-3])\.(_conv|_batch_norm)", module):
        return _stem(int(match[1]) - 1, _NORMALISED[match[2]], spec)
    match = re.fullmatch(r"(layer[1-4])\.\1_bottleneck_(\d+)\.(.+)", module)
    if match is None:
        return None
    layer, index, part = match.groups()
    attention = {
        "conv2.conv1._conv": "conv2.conv",
        "conv2.conv1._batch_norm": "conv2.bn0",
        "conv2.conv2._conv": "conv2.fc1",
        "conv2.conv2._batch_norm": "conv2.bn1",
        "conv2.conv3": "conv2.fc2",
        "conv4": _shortcut("conv", spec),
        "_batch_norm": _shortcut("bn", spec),
    }
    if match := re.fullmatch(r"conv([13])\.(_conv|_batch_norm)", part):
        return f"{layer}.{index}.{_NORMALISED[match[2]]}{match[1]}"
    return f"{layer}.{index}.{attention.get(part, part)}"


def _res2net_paddleclas(module: str, spec: BackboneSpec) -> str | None:
    """`conv1_1._conv`, `bb_0_1.conv0._conv`, `bb_0_1.res2b_branch2b_1._conv`, `bb_0_0.short._batch_norm`."""
    if match := re.fullmatch(r"conv1_([1-3])\.(_conv|_batch_norm)", module):
        return _stem(int(match[1]) - 1, _NORMALISED[match[2]], spec)
    match = re.fullmatch(r"bb_([0-3])_(\d+)\.(?:\w+_branch2b_(\d+)|(conv0|conv2|short))\.(_conv|_batch_norm)", module)
    if match is None:
        return None
    layer, index, split, where, part = match.groups()
    part = _NORMALISED[part]
    if split:
        inside = f"{part}s.{int(split) - 1}"
    else:
        inside = _shortcut(part, spec) if where == "short" else f"{part}{int(where[-1]) + 1}"
    return f"layer{int(layer) + 1}.{index}.{inside}"


_PADDLECLAS = (_resnet_paddleclas, _resnest_paddleclas, _res2net_paddleclas)
