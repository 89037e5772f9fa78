"""A published network, and the file that its library's own saving makes of it."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import paddle
import torch
from torch import Tensor


@dataclass(frozen=True)
class PublishedNetwork:
    """A file as its library saves it, and the descriptors that its library computes.

    Attributes:
        library: whose network it is.
        variant: the variant whose backbone it has, in small.
        described: its head, for a table.
        value: what is saved: tensors of PyTorch's layouts, and settings.
        descriptors: RGB pixels [N, H, W, 3] from 0 to 255 → descriptors [N, D] of unit norm.
        head: what the import has to find: the fields of `HeadSpec` that are not the usual ones.
        backbone: the same of `BackboneSpec`.
        channels: the order of the network's channels.
        stated: what a user has to say.
        left_out: names that the import has to list as left out.
        framework: which one writes the file, `torch` or `paddle`.
    """

    library: str
    variant: str
    described: str
    value: dict[str, Any]
    descriptors: Callable[[np.ndarray], Tensor]
    head: Mapping[str, Any]
    backbone: Mapping[str, Any] = field(default_factory=dict)
    channels: str = "rgb"
    stated: Mapping[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    framework: str = "torch"


class PCA:
    """scikit-learn's PCA as a pickle knows it: a class of that name with attributes."""

    def __init__(self, **attributes: object) -> None:
        self.__dict__.update(attributes)


PCA.__module__, PCA.__qualname__ = "sklearn.decomposition.pca", "PCA"


def save(published: PublishedNetwork, folder: Path, *, legacy: bool = False) -> Path:
    """The file, as Paddle or PyTorch writes it; `legacy` is PyTorch's format before version 1.6."""
    if published.framework == "paddle":
        # Paddle keeps a linear layer's weight as [in, out].
        state = {name: value.numpy() for name, value in published.value.items()}
        linear = {name: value.T.copy() for name, value in state.items() if name.endswith("fc.weight")}
        tensors = {name: paddle.to_tensor(value) for name, value in (state | linear).items()}
        paddle.save(tensors, str(folder / "a.pdparams"))
        return folder / "a.pdparams"
    # A class is pickled by its name, under which it must be found.
    known = {name: ModuleType(name) for name in ("sklearn", "sklearn.decomposition", PCA.__module__)}
    known[PCA.__module__].PCA = PCA  # type: ignore[attr-defined]
    with mock.patch.dict(sys.modules, known):
        torch.save(published.value, folder / "a.pth", _use_new_zipfile_serialization=not legacy)
    return folder / "a.pth"
