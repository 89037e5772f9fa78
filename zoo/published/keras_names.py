"""`keras.applications`' ResNets: the canonical names of their layers.

`conv3_block2_1_conv` is layer2.1.conv1.
"""

import re

from zoo.specs import BackboneSpec

KERAS = "keras.applications"
"""The library, as `Variant.equals` spells it."""
FIRST_LAYER = r"conv2_block1_1_conv\."
"""Beginning of a name of the first layer, as a regular expression."""


def keras_module(module: str, spec: BackboneSpec) -> str | None:
    """The canonical name of a layer; None if `keras.applications` does not name one like that.

    Block 0 is the shortcut. In ResNet v2, `1_bn` and `2_bn` stand behind the convolutions 1 and 2 as in v1, but belong to the next
    ones, and `preact_bn` is the first.
    """
    if module in (stem := {"conv1_conv": "conv1", "conv1_bn": "bn1", "post_bn": "bn_last"}):
        return stem[module]
    match = re.fullmatch(r"conv([2-5])_block(\d{1,3})_(preact|[0-3])_(conv|bn)", module)
    if match is None:
        return None
    layer, index, number, part = match.groups()
    block = f"layer{int(layer) - 1}.{int(index) - 1}"
    if number == "preact":
        return f"{block}.bn1" if spec.preactivated else None
    if number != "0":
        return f"{block}.{part}{int(number) + (spec.preactivated and part == 'bn')}"
    return f"{block}.downsample" if spec.preactivated else f"{block}.downsample.{int(part == 'bn')}"
