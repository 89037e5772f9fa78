"""The table of variants: each row states how it differs from another, and which published networks it equals.

If two sources use one name for two networks, both are rows, and the name contains the source. For example, ResNet-200
and ResNeSt-200 in timm have depths 3, 24, 36, 3 (as in He et al.), while ResNet200_vd and Res2Net200_vd in PaddleClas
have 3, 12, 48, 3. PaddleClas differs from the originals in four more ways: average poolings do not count padding, split
attention has one bias less, ResNet-18 and -34 have a convolution in the first shortcut, and Res2Net begins with a
hierarchical block.
"""

import difflib
from dataclasses import dataclass, replace

from zoo.errors import SpecError
from zoo.specs import BackboneSpec, HeadSpec, ModelSpec


@dataclass(frozen=True)
class Variant:
    """A row of the table.

    Attributes:
        backbone: the network.
        equals: published networks with the same tensors and outputs, as "library name" or "library
            name(option=value,…)"; the tests compare the variant with each of them.
    """

    backbone: BackboneSpec
    equals: tuple[str, ...] = ()


_DEPTHS = {26: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3), 200: (3, 24, 36, 3)}
_PADDLE_200 = (3, 12, 48, 3)
_R18 = BackboneSpec(depths=(2, 2, 2, 2), block="basic")
_R34 = replace(_R18, depths=(3, 4, 6, 3))
_R = {layers: BackboneSpec(depths=depths) for layers, depths in _DEPTHS.items()}
_V1 = {"stride_in_first": True}
_V2 = {"block": "preactivation"}
_KERAS_V2 = {**_V2, "stride_at_end": True, "convolution_bias": True, "stem_pool": "zeros"}
_VC = {"stem": "deep"}
_DEEP = "(stem_type=deep,stem_width=32)"
_VD = {"stem": "deep", "shortcut": "avg_conv"}
_T = {"stem": "deep_tiered", "shortcut": "avg_conv"}
_VD_PADDLE_BASIC = {**_VD, "first_shortcut": True}
_SE = {"squeeze_excitation": True}
_IBN = {"ibn_a": True}
_WIDE_STEM = {"stem_width": 64, "stem_channels": 128}
_S = {n: replace(r, block="split_attention", radix=2, **_VD) for n, r in _R.items()}
_S14 = replace(_S[50], depths=(1, 1, 1, 1))
_S269 = replace(_S[50], depths=(3, 30, 48, 8))
_PADDLE_POOL = {"pool_counts_padding": False}
_PADDLE_S = {"attention_bias": False, **_PADDLE_POOL}
_R2 = {n: replace(r, block="res2net", base_width=26, scale=4) for n, r in _R.items()}
_PADDLE_R2 = {"hierarchy_from_first": True, **_PADDLE_POOL}
# Half or a quarter of the width and one block per layer: small enough to train on two CPU cores in minutes.
_NARROW = {"depths": (1, 1, 1, 1), "stem_width": 16, "stem_channels": 32}


def _groups(cardinality: int, base_width: int) -> dict[str, int]:
    return {"cardinality": cardinality, "base_width": base_width}


def _fast(radix: int, cardinality: int, base_width: int) -> BackboneSpec:
    return replace(_S[50], radix=radix, avd_first=True, **_groups(cardinality, base_width))


VARIANTS: dict[str, Variant] = {
    # For the demo.
    "resnet10_narrow": Variant(BackboneSpec(block="basic", planes=(32, 64, 128, 256), **_NARROW)),
    "resnest14_narrow": Variant(replace(_S14, planes=(16, 32, 64, 128), **_NARROW)),
    # ResNet: the original, "v1"; -B (the 7×7 stem), -C (the deep stem), -D ("vd": the pooled shortcut as well), timm's tiered "t".
    "resnet18": Variant(_R18, ("timm resnet18", "paddle.vision resnet18", "torchvision resnet18")),
    "resnet34": Variant(_R34, ("timm resnet34", "paddle.vision resnet34", "torchvision resnet34")),
    "resnet26": Variant(_R[26], ("timm resnet26",)),
    "resnet50": Variant(_R[50], ("timm resnet50", "paddle.vision resnet50", "PaddleClas ResNet50")),
    "resnet101": Variant(_R[101], ("timm resnet101", "paddle.vision resnet101", "PaddleClas ResNet101")),
    "resnet152": Variant(_R[152], ("timm resnet152", "paddle.vision resnet152", "PaddleClas ResNet152")),
    "resnet200": Variant(_R[200], ("timm resnet200",)),
    "resnet50_v1": Variant(replace(_R[50], **_V1), ("keras.applications ResNet50",)),
    "resnet101_v1": Variant(replace(_R[101], **_V1), ("keras.applications ResNet101",)),
    "resnet152_v1": Variant(replace(_R[152], **_V1), ("keras.applications ResNet152",)),
    "resnet50_v2": Variant(replace(_R[50], **_KERAS_V2), ("keras.applications ResNet50V2",)),
    "resnet101_v2": Variant(replace(_R[101], **_KERAS_V2), ("keras.applications ResNet101V2",)),
    "resnet152_v2": Variant(replace(_R[152], **_KERAS_V2), ("keras.applications ResNet152V2",)),
    "resnetv2_50": Variant(replace(_R[50], **_V2), ("timm resnetv2_50",)),
    "resnetv2_101": Variant(replace(_R[101], **_V2), ("timm resnetv2_101",)),
    "resnetv2_152": Variant(replace(_R[152], **_V2), ("timm resnetv2_152",)),
    "resnet18_paddleclas": Variant(replace(_R18, first_shortcut=True), ("PaddleClas ResNet18",)),
    "resnet34_paddleclas": Variant(replace(_R34, first_shortcut=True), ("PaddleClas ResNet34",)),
    "resnet18_vc": Variant(replace(_R18, **_VC), (f"timm resnet18{_DEEP}",)),
    "resnet34_vc": Variant(replace(_R34, **_VC), (f"timm resnet34{_DEEP}",)),
    "resnet50_vc": Variant(replace(_R[50], **_VC), ("timm resnet50c",)),
    "resnet101_vc": Variant(replace(_R[101], **_VC), ("timm resnet101c",)),
    "resnet152_vc": Variant(replace(_R[152], **_VC), ("timm resnet152c",)),
    "resnet200_vc": Variant(replace(_R[200], **_VC), (f"timm resnet200{_DEEP}",)),
    "resnet18_vd": Variant(replace(_R18, **_VD), ("timm resnet18d",)),
    "resnet34_vd": Variant(replace(_R34, **_VD), ("timm resnet34d",)),
    "resnet18_vd_paddleclas": Variant(replace(_R18, **_VD_PADDLE_BASIC), ("PaddleClas ResNet18_vd",)),
    "resnet34_vd_paddleclas": Variant(replace(_R34, **_VD_PADDLE_BASIC), ("PaddleClas ResNet34_vd",)),
    "resnet26_vd": Variant(replace(_R[26], **_VD), ("timm resnet26d",)),
    "resnet50_vd": Variant(replace(_R[50], **_VD), ("timm resnet50d", "PaddleClas ResNet50_vd")),
    "resnet101_vd": Variant(replace(_R[101], **_VD), ("timm resnet101d", "PaddleClas ResNet101_vd")),
    "resnet152_vd": Variant(replace(_R[152], **_VD), ("timm resnet152d", "PaddleClas ResNet152_vd")),
    "resnet200_vd": Variant(replace(_R[200], **_VD), ("timm resnet200d",)),
    "resnet200_vd_paddleclas": Variant(replace(_R[50], depths=_PADDLE_200, **_VD), ("PaddleClas ResNet200_vd",)),
    "resnet26t": Variant(replace(_R[26], **_T), ("timm resnet26t",)),
    "resnet50t": Variant(replace(_R[50], **_T), ("timm resnet50t",)),
    # Wide ResNet and ResNeXt.
    "wide_resnet50_2": Variant(
        replace(_R[50], base_width=128), ("timm wide_resnet50_2", "paddle.vision wide_resnet50_2")
    ),
    "wide_resnet101_2": Variant(
        replace(_R[101], base_width=128), ("timm wide_resnet101_2", "paddle.vision wide_resnet101_2")
    ),
    "resnext50_32x4d": Variant(
        replace(_R[50], **_groups(32, 4)), ("timm resnext50_32x4d", "paddle.vision resnext50_32x4d")
    ),
    "resnext50_64x4d": Variant(replace(_R[50], **_groups(64, 4)), ("paddle.vision resnext50_64x4d",)),
    "resnext50_vd_32x4d": Variant(replace(_R[50], **_VD, **_groups(32, 4)), ("timm resnext50d_32x4d",)),
    "resnext101_32x4d": Variant(
        replace(_R[101], **_groups(32, 4)), ("timm resnext101_32x4d", "paddle.vision resnext101_32x4d")
    ),
    "resnext101_32x8d": Variant(replace(_R[101], **_groups(32, 8)), ("timm resnext101_32x8d",)),
    "resnext101_64x4d": Variant(
        replace(_R[101], **_groups(64, 4)), ("timm resnext101_64x4d", "paddle.vision resnext101_64x4d")
    ),
    "resnext152_32x4d": Variant(replace(_R[152], **_groups(32, 4)), ("paddle.vision resnext152_32x4d",)),
    "resnext152_64x4d": Variant(replace(_R[152], **_groups(64, 4)), ("paddle.vision resnext152_64x4d",)),
    # Squeeze-and-excitation.
    "seresnet18": Variant(replace(_R18, **_SE), ("timm seresnet18",)),
    "seresnet34": Variant(replace(_R34, **_SE), ("timm seresnet34",)),
    "seresnet50": Variant(replace(_R[50], **_SE), ("timm seresnet50",)),
    "seresnet101": Variant(replace(_R[101], **_SE), ("timm seresnet101",)),
    "seresnet152": Variant(replace(_R[152], **_SE), ("timm seresnet152",)),
    "seresnet50t": Variant(replace(_R[50], **_SE, **_T), ("timm seresnet50t",)),
    "seresnet152_vd": Variant(replace(_R[152], **_SE, **_VD), ("timm seresnet152d",)),
    "seresnet200_vd": Variant(replace(_R[200], **_SE, **_VD), ("timm seresnet200d",)),
    "seresnet269_vd": Variant(replace(_R[50], depths=(3, 30, 48, 8), **_SE, **_VD), ("timm seresnet269d",)),
    "seresnext26_vd_32x4d": Variant(replace(_R[26], **_SE, **_VD, **_groups(32, 4)), ("timm seresnext26d_32x4d",)),
    "seresnext26t_32x4d": Variant(replace(_R[26], **_SE, **_T, **_groups(32, 4)), ("timm seresnext26t_32x4d",)),
    "seresnext50_32x4d": Variant(replace(_R[50], **_SE, **_groups(32, 4)), ("timm seresnext50_32x4d",)),
    "seresnext101_32x4d": Variant(replace(_R[101], **_SE, **_groups(32, 4)), ("timm seresnext101_32x4d",)),
    "seresnext101_32x8d": Variant(replace(_R[101], **_SE, **_groups(32, 8)), ("timm seresnext101_32x8d",)),
    "seresnext101_64x4d": Variant(replace(_R[101], **_SE, **_groups(64, 4)), ("timm seresnext101_64x4d",)),
    # IBN-a.
    "resnet18_ibn_a": Variant(replace(_R18, **_IBN), ("IBN-Net resnet18_ibn_a",)),
    "resnet34_ibn_a": Variant(replace(_R34, **_IBN), ("IBN-Net resnet34_ibn_a",)),
    "resnet50_ibn_a": Variant(replace(_R[50], **_IBN), ("IBN-Net resnet50_ibn_a",)),
    "resnet101_ibn_a": Variant(replace(_R[101], **_IBN), ("IBN-Net resnet101_ibn_a",)),
    "resnet152_ibn_a": Variant(replace(_R[152], **_IBN), ("IBN-Net resnet152_ibn_a",)),
    "resnext101_ibn_a": Variant(replace(_R[101], **_IBN, **_groups(32, 4)), ("IBN-Net resnext101_ibn_a",)),
    # ResNeSt, and its ablations.
    "resnest14": Variant(_S14, ("timm resnest14d",)),
    "resnest26": Variant(_S[26], ("timm resnest26d",)),
    "resnest50": Variant(_S[50], ("timm resnest50d", "ResNeSt resnest50")),
    "resnest101": Variant(replace(_S[101], **_WIDE_STEM), ("timm resnest101e", "ResNeSt resnest101")),
    "resnest200": Variant(replace(_S[200], **_WIDE_STEM), ("timm resnest200e", "ResNeSt resnest200")),
    "resnest269": Variant(replace(_S269, **_WIDE_STEM), ("timm resnest269e", "ResNeSt resnest269")),
    "resnest50_paddleclas": Variant(replace(_S[50], **_PADDLE_S), ("PaddleClas ResNeSt50",)),
    "resnest101_paddleclas": Variant(replace(_S[101], **_WIDE_STEM, **_PADDLE_S), ("PaddleClas ResNeSt101",)),
    "resnest200_paddleclas": Variant(replace(_S[200], **_WIDE_STEM, **_PADDLE_S), ("PaddleClas ResNeSt200",)),
    "resnest269_paddleclas": Variant(replace(_S269, **_WIDE_STEM, **_PADDLE_S), ("PaddleClas ResNeSt269",)),
    "resnest50_fast_1s1x64d": Variant(_fast(1, 1, 64), ("ResNeSt resnest50_fast_1s1x64d",)),
    "resnest50_fast_2s1x64d": Variant(_fast(2, 1, 64), ("ResNeSt resnest50_fast_2s1x64d",)),
    "resnest50_fast_4s1x64d": Variant(_fast(4, 1, 64), ("ResNeSt resnest50_fast_4s1x64d",)),
    "resnest50_fast_1s2x40d": Variant(_fast(1, 2, 40), ("ResNeSt resnest50_fast_1s2x40d",)),
    "resnest50_fast_2s2x40d": Variant(_fast(2, 2, 40), ("ResNeSt resnest50_fast_2s2x40d",)),
    "resnest50_fast_4s2x40d": Variant(_fast(4, 2, 40), ("timm resnest50d_4s2x40d", "ResNeSt resnest50_fast_4s2x40d")),
    "resnest50_fast_1s4x24d": Variant(_fast(1, 4, 24), ("timm resnest50d_1s4x24d", "ResNeSt resnest50_fast_1s4x24d")),
    "resnest50_fast_1s1x64d_paddleclas": Variant(
        replace(_fast(1, 1, 64), **_PADDLE_S), ("PaddleClas ResNeSt50_fast_1s1x64d",)
    ),
    # Res2Net: v1, and "vd" (also called v1b).
    "res2net50": Variant(_R2[50], ("timm res2net50_26w_4s",)),
    "res2net101": Variant(_R2[101], ("timm res2net101_26w_4s",)),
    "res2net50_48w_2s": Variant(replace(_R2[50], base_width=48, scale=2), ("timm res2net50_48w_2s",)),
    "res2net50_14w_8s": Variant(replace(_R2[50], base_width=14, scale=8), ("timm res2net50_14w_8s",)),
    "res2net50_26w_6s": Variant(replace(_R2[50], scale=6), ("timm res2net50_26w_6s",)),
    "res2net50_26w_8s": Variant(replace(_R2[50], scale=8), ("timm res2net50_26w_8s",)),
    "res2next50": Variant(replace(_R2[50], **_groups(8, 4)), ("timm res2next50",)),
    "res2net50_vd": Variant(replace(_R2[50], **_VD), ("timm res2net50d",)),
    "res2net101_vd": Variant(replace(_R2[101], **_VD), ("timm res2net101d",)),
    "res2net50_vd_paddleclas": Variant(replace(_R2[50], **_VD, **_PADDLE_R2), ("PaddleClas Res2Net50_vd_26w_4s",)),
    "res2net101_vd_paddleclas": Variant(replace(_R2[101], **_VD, **_PADDLE_R2), ("PaddleClas Res2Net101_vd_26w_4s",)),
    "res2net200_vd": Variant(
        replace(_R2[50], depths=_PADDLE_200, **_VD, **_PADDLE_R2), ("PaddleClas Res2Net200_vd_26w_4s",)
    ),
}

SPECS: dict[str, ModelSpec] = {name: ModelSpec(name, row.backbone, HeadSpec()) for name, row in VARIANTS.items()}
"""Each variant with the paper's head: GeM with a learned exponent, then a linear layer to 512 without bias."""


def get_spec(name: str) -> ModelSpec:
    """The spec of a variant, by its name or by a published one (`timm resnet50d`).

    Raises:
        SpecError: there is no such variant; the message suggests the nearest names.
    """
    if name in SPECS:
        return SPECS[name]
    published = [ours for ours, row in VARIANTS.items() if name in row.equals]
    if published:
        return SPECS[published[0]]
    near = difflib.get_close_matches(name, SPECS, n=3) or sorted(SPECS)
    raise SpecError(f"there is no model {name!r}. Did you mean {' or '.join(near)}?")
