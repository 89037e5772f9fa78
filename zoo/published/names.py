"""Maps the tensor names of published checkpoints to canonical names.

torchvision, timm, ResNeSt, Res2Net, IBN-Net and `paddle.vision` share one scheme: canonical names without `backbone.`.
PaddleClas has three more, for ResNet (`blocks.3.conv0.conv.weight`), for ResNeSt
(`layer1.layer1_bottleneck_0.conv2.conv1._conv.weight`) and for Res2Net (`bb_0_1.res2b_branch2b_1._conv.weight`); before version 2.2
its ResNets were named like its Res2Nets (`bb_0_1.conv1._conv.weight`). cirtorch numbers torchvision's modules
(`features.4.0.conv1.weight`), and pycls names its blocks by stage (`s1.b1.f.a.weight`). timm has another scheme for its pre-activation
ResNets (`stages.0.blocks.0.norm1.weight`), and `keras.applications` has its own (`zoo.published.keras_names`).

People's own networks hold a backbone under any prefix (`model.`, `module.backbone.`, `encoder_q.base.` …). It is found as what stands
before the first layer's names.
"""

import collections
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from zoo.errors import CheckpointError
from zoo.limits import PREFIXES
from zoo.published import keras_names
from zoo.specs import BackboneSpec

_OWN = "backbone."
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""Parts of names that PyTorch's parallel, compiled and checkpointed modules add, anywhere in a name."""
STATISTICS = {"_mean": "running_mean", "_variance": "running_var", "scale": "weight"}
"""Paddle's names of a normalisation's tensors; `scale` is instance normalisation's."""
_FIRST_LAYER = re.compile(
    r"(?:^|[./])(?=layer1\.|blocks\.0\.|bb_0_0\.|4\.0\.conv1\.|s1\.b1\.|stages\.0\.blocks\.0\.norm1\.|"
    + keras_names.FIRST_LAYER
    + ")"
)
PATH = "/"
"""Between the keys of nested mappings, and between them and a tensor's name."""
_AVERAGED = {"ema", "swa", "average", "averaged", "avg", "shadow"}
_TRUNKS = {"backbone", "base", "body", "trunk", "features", "encoder"}
"""Last parts of prefixes under which there is nothing but a backbone and its classifier."""
_BACKBONE = re.compile(r"(layer[1-4]|conv1|bn1|bn_last)(\.|$)")


@dataclass(frozen=True)
class Naming:
    """What the names of a file mean for a backbone.

    Attributes:
        prefix: what stands before the backbone's names.
        canonical: {the file's name: canonical name} of the backbone.
        others: names of the file that belong to something else: classifiers, heads, losses, statistics of the input.
    """

    prefix: str
    canonical: dict[str, str]
    others: list[str]


def averaged(path: str) -> bool:
    """Whether keys or a prefix speak of averaged weights: `model_ema`, `params_ema`, `swa.module.`."""
    return not _AVERAGED.isdisjoint(re.split(r"[^a-z]+", path.lower()))


def has_first_layer(names: Iterable[str]) -> bool:
    """Whether there are names of a backbone's first layer."""
    return any(_FIRST_LAYER.search(plain_name(name)) for name in names)


def naming(
    names: Iterable[str],
    spec: BackboneSpec,
    expected: Iterable[str],
    prefix: str | None = None,
    same: Callable[[str, str], bool] = lambda first, second: False,
) -> Naming:
    """The naming under which most of the expected tensors are found.

    Args:
        names: of all tensors in a file.
        spec: the backbone that is looked for.
        expected: canonical names of its tensors.
        prefix: what stands before the backbone's names; by default it is looked for. Averaged weights ("ema") come first.
        same: whether two names are of equal tensors, so that it does not matter which one is taken.

    Raises:
        CheckpointError: two backbones are equally complete, so `prefix` is needed; or no name begins with the given one.
    """
    plainly = {name: plain_name(name) for name in names}
    wanted, found = set(expected), {}
    prefix = None if prefix is None else _given(prefix, plainly)
    for candidate in [prefix] if prefix is not None else prefixes(plainly.values()):
        made = _under(candidate, plainly, spec)
        found[candidate] = (len(wanted & set(made.canonical.values())), averaged(candidate), made)
    best = max(found.values(), key=lambda entry: entry[:2])
    equal = [
        candidate
        for candidate, entry in found.items()
        if entry[:2] == best[:2] and (entry is best or not _alike(entry[2], best[2], same))
    ]
    if len(equal) > 1 and best[0]:
        raise CheckpointError(
            f"it has {len(equal)} backbones, under {' and '.join(map(repr, equal[:5]))}; pass --prefix with the one that you mean"
        )
    return best[2]


def _given(prefix: str, plainly: dict[str, str]) -> str:
    """A prefix as it stands in names without wrappers; somebody who types it may leave out the last dot."""
    bare = plain_name(prefix)
    if bare and not bare.endswith((".", PATH)):
        bare += "."
    if not any(name.startswith(bare) for name in plainly.values()):
        known = ", ".join(map(repr, prefixes(plainly.values())[:5]))
        raise CheckpointError(f"no name in it begins with {prefix!r}; a backbone's names begin with {known}")
    return bare


def _alike(first: Naming, second: Naming, same: Callable[[str, str], bool]) -> bool:
    """Whether two namings give the same weights."""
    theirs = {ours: name for name, ours in second.canonical.items()}
    return all(
        ours in theirs and (name == theirs[ours] or same(name, theirs[ours])) for name, ours in first.canonical.items()
    )


def in_trunk(found: Naming, names: Iterable[str]) -> list[str]:
    """Those of the names that stand in the backbone's own module, beside its layers; none if that module may hold heads too."""
    parts = re.split(r"[./]", found.prefix)
    if len(parts) < 2 or parts[-2] not in _TRUNKS:
        return []
    return [name for name in names if plain_name(name).startswith(found.prefix)]


def prefixes(names: Iterable[str]) -> list[str]:
    """What stands before a first layer's names, most names first; [""] if there is no first layer."""
    found = collections.Counter(name[: match.end()] for name in names for match in _FIRST_LAYER.finditer(name))
    return [prefix for prefix, _ in found.most_common(PREFIXES)] or [""]


def _under(prefix: str, names: dict[str, str], spec: BackboneSpec) -> Naming:
    """The naming with this prefix."""
    canonical: dict[str, str] = {}
    others: list[str] = []
    for name, unwrapped in names.items():
        module, _, last = unwrapped.rpartition(".")
        if last == "num_batches_tracked":
            continue
        last = STATISTICS.get(last, last)
        if unwrapped.startswith(prefix):
            ours = _backbone_module(module.removeprefix(prefix), spec)
            if _BACKBONE.match(ours):
                canonical[name] = f"{_OWN}{ours}.{last}"
                continue
        elif unwrapped.rpartition(PATH)[0] != prefix.rpartition(PATH)[0]:
            continue  # of another state dict
        others.append(name)
    return Naming(prefix, canonical, others)


def _backbone_module(module: str, spec: BackboneSpec) -> str:
    """A module's canonical name; unchanged if no grammar has it."""
    for grammar in (*_PADDLECLAS, _preactivation_timm, _pycls, _numbered, keras_names.keras_module):
        if (found := grammar(module, spec)) is not None:
            return found
    return module


def plain_name(name: str) -> str:
    """A name without the parts that wrappers of modules add to it."""
    path, slash, name = name.rpartition(PATH)
    return path + slash + ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _numbered(module: str, _spec: BackboneSpec) -> str | None:
    """`0`, `1`, `4.0.conv1`: torchvision's modules in a Sequential, as in cirtorch."""
    if match := re.fullmatch(r"([4-7])\.(\d{1,3}\..+)", module):
        return f"layer{int(match[1]) - 3}.{match[2]}"
    return {"0": "conv1", "1": "bn1"}.get(module)


def _pycls(module: str, spec: BackboneSpec) -> str | None:
    """`stem.conv`, `s1.b1.proj`, `s1.b1.bn`, `s4.b3.f.c_bn`, as in pycls and what was made from it: DELG, CVNet, pymetric."""
    if match := re.fullmatch(r"stem\.(conv|bn)", module):
        return f"{match[1]}1"
    match = re.fullmatch(r"s([1-4])\.b(\d{1,3})\.(?:(proj|bn)|f\.([abc])(_bn)?)", module)
    if match is None:
        return None
    layer, number, beside, letter, norm = match.groups()
    if beside:
        part = _shortcut("conv" if beside == "proj" else "bn", spec)
    else:
        part = f"{'bn' if norm else 'conv'}{'abc'.index(letter) + 1}"
    return f"layer{layer}.{int(number) - 1}.{part}"


def _preactivation_timm(module: str, spec: BackboneSpec) -> str | None:
    """`stem.conv`, `stages.0.blocks.0.norm1`, `stages.0.blocks.0.downsample.conv`, `norm`: timm's ResNetV2."""
    if not spec.preactivated:
        return None
    match = re.fullmatch(r"stages\.([0-3])\.blocks\.(\d{1,3})\.(?:(norm|conv)([1-3])|downsample\.conv)", module)
    if match is None:
        return {"stem.conv": "conv1", "norm": "bn_last"}.get(module)
    layer, index, kind, number = match.groups()
    part = "downsample" if kind is None else f"{'bn' if kind == 'norm' else 'conv'}{number}"
    return f"layer{int(layer) + 1}.{index}.{part}"


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
    match = re.fullmatch(r"blocks\.(\d{1,3})\.(?:conv([0-2])|short)\.(conv|bn)", module)
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
    match = re.fullmatch(r"(layer[1-4])\.\1_bottleneck_(\d{1,3})\.(.+)", module)
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
    """Also ResNet before version 2.2: `conv1_1._conv`, `bb_0_1.conv0._conv`, `bb_0_1.res2b_branch2b_1._conv`, `bb_0_0.short._batch_norm`."""
    if match := re.fullmatch(r"conv(?:1(?:_([1-3]))?)?\.(_conv|_batch_norm)", module):
        return _stem(int(match[1] or 1) - 1, _NORMALISED[match[2]], spec)
    match = re.fullmatch(
        r"bb_([0-3])_(\d{1,3})\.(?:\w+_branch2b_(\d{1,3})|(conv[0-2]|short))\.(_conv|_batch_norm)", module
    )
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
