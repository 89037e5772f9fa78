"""The head of a network of this project, from the state dict that `write_weights` made of it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import get_args

from zoo.errors import CheckpointError
from zoo.specs import HeadSpec, Neck, Pool
from zoo.weights import exponent_name


def own_head(
    sizes: Mapping[str, int], features: int, usual: HeadSpec, pool: Pool | None, l2_before_neck: bool | None
) -> HeadSpec:
    """The head that has these tensors; what they do not tell is stated, or the usual head's.

    Args:
        sizes: by canonical name, the length of the first axis in PyTorch's layout: of a linear layer, its outputs.
        features: channels of the backbone's last map.
        usual: the head of the model's spec.
        pool, l2_before_neck: what the user states of the head, None if nothing.

    Raises:
        CheckpointError: nothing says how the last map is pooled, or the user's pooling has not the exponent that the file has.
    """
    head = _pooled(next((name for name in ("pool.p", "pool.gem.p") if name in sizes), None), usual, pool)
    pooled, outputs = features * len(head.pools), sizes.get("neck.linear.weight")
    neck = _neck(pooled, outputs, sizes.get("neck.bn.weight"), usual)
    return replace(
        head,
        neck=neck,
        neck_bias=outputs is not None and "neck.linear.bias" in sizes,
        embedding_size=outputs or pooled,
        l2_before_neck=neck != "none" and (usual.l2_before_neck if l2_before_neck is None else l2_before_neck),
        whitening_size=sizes.get("neck.whitening.linear.weight") if outputs else None,
    )


def _neck(pooled: int, outputs: int | None, normalised: int | None, usual: HeadSpec) -> Neck:
    """The neck, from the lengths of its input, its linear layer's output and its BatchNorm; None for a layer that it does not have."""
    if outputs is None:
        return "none" if normalised is None else "bn"
    if normalised is None:
        return "linear"
    if pooled == outputs and usual.neck == "bn_linear":
        return usual.neck
    return "linear_bn" if normalised == outputs else "bn_linear"


def _pooled(exponent: str | None, usual: HeadSpec, stated: Pool | None) -> HeadSpec:
    """The usual head with the pooling that is stated, or that has the exponent of GeM which the file has."""
    if stated is None and exponent == exponent_name(usual):
        return usual
    pool = stated or ("gem" if exponent == "pool.p" else None)
    if pool is None:
        raise CheckpointError(
            f"nothing in it says how it pools its last map; pass --pool with {', '.join(get_args(Pool))}"
        )
    head = replace(usual, pool=pool, gem_p_learned=exponent is not None if "gem" in pool else usual.gem_p_learned)
    if exponent_name(head) != exponent:
        raise CheckpointError(f"it has an exponent of GeM, {exponent}, so that --pool {pool} is wrong")
    return head
