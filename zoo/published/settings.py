"""What training scripts store beside the tensors: the pooling, the mean and deviation of pixels, a whitening."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from zoo.errors import CheckpointError
from zoo.published.libraries import CIRTORCH, DIRTORCH
from zoo.published.pickled_values import Opaque, plain

_POOLS: dict[str, Literal["gem", "avg", "max"]] = {
    "gem": "gem",
    "gemmp": "gem",
    "mac": "max",
    "max": "max",
    "spoc": "avg",
    "avg": "avg",
}
"""By the names of both libraries; `gemmp` has an exponent per channel, which the shape of its tensor tells."""
_POWER = 0.25
"""deep-image-retrieval divides a PCA's components by this power of their variance: `--whitenp 0.25` in its README."""


@dataclass(frozen=True)
class Whitening:
    """An affine map of descriptors of unit norm: `weight` float32 [outputs, inputs] and `bias` float32 [outputs]."""

    weight: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class Settings:
    """What a file says about its network, None where it says nothing.

    Attributes:
        library: whose settings they are.
        pool: the global pooling.
        l2_before_neck: whether the pooled features are scaled to unit norm.
        linear: whether the network uses its linear layer.
        colours: `mean` and `std` as the file has them; `three_numbers` reads one.
        whitenings: by name; each is computed when it is called.
        unknown: settings under which the network computes something that the zoo does not have.
    """

    library: str | None = None
    pool: Literal["gem", "avg", "max"] | None = None
    l2_before_neck: bool | None = None
    linear: bool = True
    colours: Mapping[str, Any] = field(default_factory=dict)
    whitenings: Mapping[str, Callable[[], Whitening]] = field(default_factory=dict)
    unknown: Sequence[str] = ()


def settings_of(value: Any) -> Settings:
    """The settings in what was read from a file."""
    if not isinstance(value, dict):
        return Settings()
    if isinstance(meta := value.get("meta"), dict) and "architecture" in meta and "pooling" in meta:
        return _cirtorch(meta)
    if isinstance(options := value.get("model_options"), dict) and "arch" in options:
        return _dirtorch(value, options)
    return Settings()


def _cirtorch(meta: dict) -> Settings:
    """The settings of cnnimageretrieval-pytorch: `ImageRetrievalNet.meta`."""
    pool, unknown = _pool_named(meta["pooling"])
    unknown += [key for key in ("local_whitening", "regional") if _is_set(meta.get(key))]
    whitenings = {
        f"{data}/{scales}": functools.partial(_centred, pair["P"], pair["m"])
        for data, own in _entries(meta.get("Lw"))
        for scales, pair in _entries(own)
        if isinstance(pair, dict) and isinstance(pair.get("P"), np.ndarray) and isinstance(pair.get("m"), np.ndarray)
    }
    return Settings(CIRTORCH, pool, l2_before_neck=True, colours=_colours(meta), whitenings=whitenings, unknown=unknown)


def _dirtorch(value: dict, options: dict) -> Settings:
    """The settings of deep-image-retrieval: the arguments of `ResNet_RMAC`, `preprocess` and `pca`."""
    pool, unknown = _pool_named(options.get("pooling", "gem"))
    unknown += ["center_bias"] if _is_set(options.get("center_bias")) else []
    whitenings = {
        name: functools.partial(_pca, pca.items)
        for name, pca in _entries(value.get("pca"))
        if isinstance(pca, Opaque) and pca.items is not None
    }
    return Settings(
        DIRTORCH,
        pool,
        l2_before_neck=_is_set(options.get("norm_features")),
        linear=not _is_set(options.get("without_fc")),
        colours=_colours(dict(_entries(value.get("preprocess")))),
        whitenings=whitenings,
        unknown=unknown,
    )


def _pool_named(name: Any) -> tuple[Literal["gem", "avg", "max"] | None, list[str]]:
    """A pooling, and what is unknown about it."""
    pool = _POOLS.get(name) if isinstance(name, str) else None
    return pool, [] if pool else [f"pooling {plain(name)}"]


def _is_set(value: Any) -> bool:
    return isinstance(value, bool | int | float) and bool(value)


def _entries(value: Any) -> list[tuple[str, Any]]:
    """A mapping's entries whose keys are texts."""
    return [(key, item) for key, item in value.items() if isinstance(key, str)] if isinstance(value, dict) else []


def _colours(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Mean and deviation, if they are set."""
    return {key: found for key in ("mean", "std") if (found := settings.get(key)) is not None}


def three_numbers(found: Any, key: str) -> tuple[float, float, float]:
    """One of `Settings.colours`: per channel, for pixels from 0 to 1.

    Raises:
        CheckpointError: it is something else.
    """
    numbers = isinstance(found, list | tuple) and all(
        isinstance(item, float | int) and abs(item) < 256 for item in found
    )
    if not numbers or len(found) != 3:
        raise CheckpointError(
            f"its settings have a {key} that is not three numbers below 256; pass --{key} with three numbers from 0 to 1"
        )
    first, second, third = map(float, found)
    return first, second, third


def _pca(values: Mapping[str, Any]) -> Whitening:
    """scikit-learn's PCA: components · (x - mean), divided by a power of the variance if it whitens."""
    components, mean, variance = (values.get(key) for key in ("components_", "mean_", "explained_variance_"))
    if not isinstance(components, np.ndarray) or not isinstance(variance, np.ndarray):
        raise CheckpointError("it has a PCA without its components and their variance")
    if components.ndim != 2 or variance.shape != components.shape[:1] or not (variance > 0).all():
        raise CheckpointError("it has a PCA whose components and variances do not fit together")
    weight = components.astype(np.float64)
    if _is_set(values.get("whiten")):
        weight = weight / variance.astype(np.float64)[:, None] ** _POWER
    return _centred(weight, mean if isinstance(mean, np.ndarray) else np.zeros(weight.shape[1]))


def _centred(weight: np.ndarray, mean: np.ndarray) -> Whitening:
    """weight · (x - mean)."""
    if weight.ndim != 2 or mean.size != weight.shape[1]:
        raise CheckpointError(
            f"it has a whitening of {list(weight.shape)} with a mean of {list(mean.shape)}, which do not fit together"
        )
    exact = weight.astype(np.float64)
    bias = -exact @ mean.astype(np.float64).reshape(-1)
    return Whitening(exact.astype(np.float32), bias.astype(np.float32))
