"""The published networks that the zoo is compared with, by their names in `zoo.variants`.

Development dependencies only: timm, torchvision and pytorch-metric-learning come with `pip install -e .[dev]`. PaddleClas and
ResNeSt require packages of 2020 that are not compatible with the current TensorFlow, so `make oracles` puts only their own
files into .oracles, and only what a network needs of them is imported.
"""

import importlib
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import paddle
import pytest
import torch
from torch import Tensor, nn

from parity_tests.torchvision_operators import without_operators

ORACLES = Path(__file__).resolve().parents[1] / ".oracles"


@dataclass(frozen=True)
class Oracle:
    """A published network without its classifier: from images float [N, 3, H, W] to averaged features [N, C].

    Attributes:
        framework: `torch` or `paddle`.
        model: the framework's module, with its own names.
        odd_sizes: whether it takes images whose sides are not multiples of 32.
        in_float64: whether it computes everything in float64 if asked to.
    """

    framework: str
    model: Any
    odd_sizes: bool = True
    in_float64: bool = True

    def load(self, values: dict[str, np.ndarray]) -> None:
        """Sets float tensors by their published names, all of them but PyTorch's counters."""
        if self.framework == "torch":
            state = {name: torch.from_numpy(value) for name, value in values.items()}
            missing, unexpected = self.model.load_state_dict(state, strict=False)
            assert not unexpected
            assert all(name.endswith("num_batches_tracked") for name in missing)
        else:
            missing, unexpected = self.model.set_state_dict(values)
            assert not missing
            assert not unexpected

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's shape by its published name."""
        return {name: tuple(value.shape) for name, value in self.model.state_dict().items()}


def published(source: str) -> Oracle:
    """A network by its name in `Variant.equals` ("timm resnet50d"), with its library's initial weights."""
    library, _, name = source.partition(" ")
    return MAKERS[library](name)


def import_metric_learning() -> ModuleType:
    """pytorch-metric-learning's losses."""
    without_operators()
    from pytorch_metric_learning import losses

    return losses


def _timm(name: str) -> Oracle:
    without_operators()
    import timm

    plain, _, options = name.removesuffix(")").partition("(")
    pairs = (option.split("=") for option in options.split(",") if option)
    chosen = {key: int(value) if value.isdigit() else value for key, value in pairs}
    return Oracle("torch", timm.create_model(plain, num_classes=0, **chosen))


def _torchvision(name: str) -> Oracle:
    without_operators()
    from torchvision import models

    model = models.get_model(name)
    model.fc = nn.Identity()
    return Oracle("torch", model)


def _paddle_vision(name: str) -> Oracle:
    model = getattr(paddle.vision.models, name)(num_classes=0)
    return Oracle("paddle", _Flat(model))


class _Flat(paddle.nn.Layer):
    """Averaged features [N, C, 1, 1] as [N, C], under the network's own names."""

    def __init__(self, model: paddle.nn.Layer) -> None:
        super().__init__()
        self._sub_layers.update(model._sub_layers)
        self.whole = [model]

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        return self.whole[0](images).flatten(1)


@dataclass(frozen=True)
class _Keras(Oracle):
    """A network of `keras.applications`, under the names that `zoo.published` gives its tensors.

    Its convolutions have biases that ours have not where BatchNorm follows; they stay 0. With PyTorch as its backend, its BatchNorm
    rounds to float32 in float64 too.
    """

    def load(self, values: dict[str, np.ndarray]) -> None:
        for layer in self.model.network.layers:
            found = {weight.name: weight for weight in layer.weights}
            for kind, weight in found.items():
                value = values.get(f"{layer.name}.{_KERAS_KINDS[kind]}")
                if value is None:
                    assert kind == "bias"
                    continue
                if kind == "moving_variance":
                    value = value - (layer.epsilon - 1e-5)
                weight.assign(value.transpose(2, 3, 1, 0) if value.ndim == 4 else value)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        found = {}
        for layer in self.model.network.layers:
            for weight in layer.weights:
                shape = tuple(weight.shape)
                found[f"{layer.name}.{_KERAS_KINDS[weight.name]}"] = (
                    (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape
                )
        return {name: shape for name, shape in found.items() if not (self.model.folds and name.endswith("_conv.bias"))}


_KERAS_KINDS = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


class _KerasOnTorch(nn.Module):
    """Images float [N, 3, H, W] to averaged features [N, C] by a Keras model with PyTorch as its backend."""

    def __init__(self, name: str) -> None:
        super().__init__()
        # Keras chooses its backend while it is imported.
        with mock.patch.dict(os.environ, KERAS_BACKEND="torch"):
            applications = importlib.import_module("keras").applications
        make = getattr(applications, name)
        self.network = make(weights=None, include_top=False, pooling="avg", input_shape=(None, None, 3))
        self.folds = "V2" not in name

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images.permute(0, 2, 3, 1), training=False)


def _keras(name: str) -> Oracle:
    return _Keras("torch", _KerasOnTorch(name), in_float64=False)


class _InstanceBatchNorm(nn.Module):
    """IBN-Net's own layer: the first half of the channels instance-normalised, the others batch-normalised."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.IN = nn.InstanceNorm2d(channels // 2, affine=True)
        self.BN = nn.BatchNorm2d(channels - channels // 2)

    def forward(self, features: Tensor) -> Tensor:
        first, rest = features[:, : len(self.IN.weight)], features[:, len(self.IN.weight) :]
        return torch.cat([self.IN(first), self.BN(rest)], dim=1)


def _ibn_net(name: str) -> Oracle:
    """IBN-Net publishes no package: this is timm's network with IBN-a in the places where IBN-Net has it."""
    plain = name.removesuffix("_ibn_a")
    model = _timm({"resnext101": "resnext101_32x4d"}.get(plain, plain)).model
    for layer in (model.layer1, model.layer2, model.layer3):
        for block in layer:
            block.bn1 = _InstanceBatchNorm(block.bn1.num_features)
    return Oracle("torch", model)


def _require(folder: str) -> None:
    if not (ORACLES / folder).is_dir():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"needs {folder}: run `make oracles`")


def _resnest(name: str) -> Oracle:
    _require("resnest")
    _package("resnest", ORACLES / "resnest")
    _package("resnest.torch", ORACLES / "resnest" / "torch")
    module = "resnest" if name.count("_") == 0 else "ablation"
    model = getattr(importlib.import_module(f"resnest.torch.{module}"), name)()
    model.fc = nn.Identity()
    return Oracle("torch", model)


_PADDLECLAS = {"ResNeSt": "model_zoo.resnest", "Res2Net": "model_zoo.res2net_vd", "ResNet": "legendary_models.resnet"}


def _paddleclas(name: str) -> Oracle:
    _require("paddleclas")
    root = ORACLES / "paddleclas"
    _package("paddleclas", root)
    backbones = "ppcls.arch.backbone"
    inside = (f"{backbones}.{package}" for package in ("base", "legendary_models", "model_zoo"))
    for path in ("ppcls", "ppcls.arch", backbones, *inside):
        _package(f"paddleclas.{path}", root.joinpath(*path.split(".")))
    _package("paddleclas.ppcls.utils", None, logger=logging.getLogger("paddleclas"))
    _package("paddleclas.ppcls.utils.save_load", None, load_dygraph_pretrain=None)
    family = next(prefix for prefix in _PADDLECLAS if name.startswith(prefix))
    module = importlib.import_module(f"paddleclas.{backbones}.{_PADDLECLAS[family]}")
    # Paddle refuses two parameters with the same name in one process, and these networks name theirs.
    module.ParamAttr = lambda *_, name=None, **options: paddle.ParamAttr(**options)
    module.BatchNorm = lambda *args, moving_mean_name=None, moving_variance_name=None, **options: paddle.nn.BatchNorm(
        *args, **options
    )
    model = getattr(module, name)()
    setattr(model, "fc" if family == "ResNet" else "out", paddle.nn.Identity())
    # In its ResNeSt the shortcut drops an odd edge that the other branch keeps, so odd sizes fail.
    return Oracle("paddle", model, odd_sizes=family != "ResNeSt")


def _package(name: str, path: Path | None, **attributes: Any) -> None:
    """An empty package of that name, so that its own __init__, which imports the whole library, is not run."""
    if name not in sys.modules:
        module = ModuleType(name)
        module.__path__ = [str(path)] if path else []
        for attribute, value in attributes.items():
            setattr(module, attribute, value)
        sys.modules[name] = module


MAKERS: dict[str, Callable[[str], Oracle]] = {
    "timm": _timm,
    "torchvision": _torchvision,
    "paddle.vision": _paddle_vision,
    "PaddleClas": _paddleclas,
    "ResNeSt": _resnest,
    "IBN-Net": _ibn_net,
    "keras.applications": _keras,
}
