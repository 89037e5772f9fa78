"""Retrieval networks as their libraries publish and compute them, in plain functions of PyTorch.

Nothing here is this project's: each network is written from its library's description, with its library's tensor names, random
weights, head and treatment of pixels.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import paddle
import torch
import torch.nn.functional as F
from torch import Tensor

Tensors = dict[str, Tensor]
DEPTHS, PLANES, STEM, FEATURES = (2, 1, 1, 1), (8, 16, 24, 32), 24, 128
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Names:
    """How a library names a backbone's tensors: of layer 1 … 4, of block 0 …, the part of a block, and BatchNorm's statistics.

    Parts are conv1, bn1, conv2, bn2, conv3, bn3, and conv and bn of the shortcut; of layer 0, conv1 and bn1 are the stem's.
    """

    module: Callable[[int, int, str], str]
    mean: str = "running_mean"
    variance: str = "running_var"


def torchvision(prefix: str) -> Names:
    """conv1, layer1.0.conv1, layer1.0.downsample.0."""

    def module(layer: int, block: int, part: str) -> str:
        part = {"conv": "downsample.0", "bn": "downsample.1"}.get(part, part)
        return f"{prefix}{part}" if layer == 0 else f"{prefix}layer{layer}.{block}.{part}"

    return Names(module)


def sequential(prefix: str) -> Names:
    """torchvision's modules by number: convolution 0, BatchNorm 1, layers 4 to 7."""

    def module(layer: int, block: int, part: str) -> str:
        if layer == 0:
            return f"{prefix}{0 if part == 'conv1' else 1}"
        part = {"conv": "downsample.0", "bn": "downsample.1"}.get(part, part)
        return f"{prefix}{layer + 3}.{block}.{part}"

    return Names(module)


def pycls(prefix: str) -> Names:
    """stem.conv, s1.b1.f.a, s1.b1.f.a_bn, s1.b1.proj, s1.b1.bn."""

    def module(layer: int, block: int, part: str) -> str:
        if layer == 0:
            return f"{prefix}stem.{part[:-1]}"
        inside = part
        if part[-1].isdigit():
            inside = f"f.{'abc'[int(part[-1]) - 1]}{'_bn' if part.startswith('bn') else ''}"
        return f"{prefix}s{layer}.b{block + 1}.{'proj' if inside == 'conv' else inside}"

    return Names(module)


def paddleclas(prefix: str) -> Names:
    """stem.0.conv, blocks.0.conv0.conv, blocks.0.short.bn, blocks numbered through all layers."""

    def module(layer: int, block: int, part: str) -> str:
        kind = part.rstrip("123")
        if layer == 0:
            return f"{prefix}stem.0.{kind}"
        where = "short" if kind == part else f"conv{int(part[-1]) - 1}"
        return f"{prefix}blocks.{sum(DEPTHS[: layer - 1]) + block}.{where}.{kind}"

    return Names(module, "_mean", "_variance")


class Random:
    """Random tensors; a seed gives the same ones."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(shape, generator=self.generator) * scale

    def between(self, low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=self.generator)

    def norm(self, names: Names, module: str, channels: int) -> Tensors:
        """BatchNorm's tensors."""
        return {
            f"{module}.weight": self.between(0.5, 1.3, channels),
            f"{module}.bias": self.normal(channels, scale=0.3),
            f"{module}.{names.mean}": self.normal(channels, scale=0.2),
            f"{module}.{names.variance}": self.between(0.5, 1.5, channels),
        }


def backbone(names: Names, random: Random) -> Tensors:
    """The tensors of a small bottleneck ResNet, in PyTorch's layouts."""
    made: Tensors = {}

    def convolution(layer: int, block: int, number: str, outputs: int, inputs: int, kernel: int) -> None:
        weight = random.normal(outputs, inputs, kernel, kernel, scale=(2 / (inputs * kernel**2)) ** 0.5)
        made[f"{names.module(layer, block, f'conv{number}')}.weight"] = weight
        made.update(random.norm(names, names.module(layer, block, f"bn{number}"), outputs))

    convolution(0, 0, "1", STEM, 3, 7)
    channels = STEM
    for layer, (depth, planes) in enumerate(zip(DEPTHS, PLANES, strict=True), start=1):
        for block in range(depth):
            convolution(layer, block, "1", planes, channels, 1)
            convolution(layer, block, "2", planes, planes, 3)
            convolution(layer, block, "3", planes * 4, planes, 1)
            if block == 0:
                convolution(layer, block, "", planes * 4, channels, 1)
            channels = planes * 4
    return made


def last_map(images: Tensor, tensors: Tensors, names: Names, *, last_stride: int = 2, ceil: bool = False) -> Tensor:
    """The last feature map [N, 128, H / 32, W / 32] of the network of `backbone`, the stride in the 3×3 convolution."""

    def step(x: Tensor, layer: int, block: int, number: str, stride: int = 1) -> Tensor:
        weight = tensors[f"{names.module(layer, block, f'conv{number}')}.weight"]
        norm = names.module(layer, block, f"bn{number}")
        mean, variance = tensors[f"{norm}.{names.mean}"], tensors[f"{norm}.{names.variance}"]
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        return F.batch_norm(x, mean, variance, tensors[f"{norm}.weight"], tensors[f"{norm}.bias"], eps=1e-5)

    x = F.relu(step(images, 0, 0, "1", stride=2))
    x = F.max_pool2d(x, 3, 2, ceil_mode=True) if ceil else F.max_pool2d(x, 3, 2, padding=1)
    for layer, depth in enumerate(DEPTHS, start=1):
        for block in range(depth):
            stride = (1, 2, 2, last_stride)[layer - 1] if block == 0 else 1
            inside = F.relu(step(x, layer, block, "1"))
            inside = F.relu(step(inside, layer, block, "2", stride))
            inside = step(inside, layer, block, "3")
            x = F.relu(inside + (step(x, layer, block, "", stride) if block == 0 else x))
    return x


def gem(features: Tensor, p: Tensor | float) -> Tensor:
    """Generalised mean [N, C], arXiv 1711.02512, equation 3."""
    return F.avg_pool2d(features.clamp(min=1e-6).pow(p), features.shape[-2:]).pow(1.0 / p)[:, :, 0, 0]


def unit(vectors: Tensor) -> Tensor:
    """Rows of unit norm."""
    return F.normalize(vectors, dim=1)


def normalised(pixels: np.ndarray, *, bgr: bool = False, mean: tuple = MEAN, std: tuple = STD) -> Tensor:
    """RGB pixels [N, H, W, 3] from 0 to 255 as a network's input [N, 3, H, W]; mean and std are in RGB order."""
    values = (pixels / 255 - np.array(mean)) / np.array(std)
    values = values[..., ::-1] if bgr else values
    return torch.from_numpy(np.ascontiguousarray(values.transpose(0, 3, 1, 2), np.float32))


@dataclass(frozen=True)
class Published:
    """A file as its library saves it, and the descriptors that its library computes.

    Attributes:
        library: whose network it is.
        described: its head, for a table.
        value: what is saved: tensors of PyTorch's layouts, and settings.
        descriptors: RGB pixels [N, H, W, 3] from 0 to 255 → descriptors [N, D] of unit norm.
        head: what the import has to find: the fields of `HeadSpec` that are not the usual ones.
        backbone: the same of `BackboneSpec`.
        channels: the order of the network's channels.
        stated: what a user has to say.
        left_out: names that the import has to list as left out.
    """

    library: str
    described: str
    value: dict[str, Any]
    descriptors: Callable[[np.ndarray], Tensor]
    head: Mapping[str, Any]
    backbone: Mapping[str, Any] = field(default_factory=dict)
    channels: str = "rgb"
    stated: Mapping[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    @property
    def paddle(self) -> bool:
        """Whether Paddle writes the file."""
        return self.library == "PaddleClas"


class PCA:
    """scikit-learn's PCA as a pickle knows it: a class of that name with attributes."""

    def __init__(self, **attributes: object) -> None:
        self.__dict__.update(attributes)


PCA.__module__, PCA.__qualname__ = "sklearn.decomposition.pca", "PCA"


def save(published: Published, folder: Path, *, legacy: bool = False) -> Path:
    """The file, as Paddle or PyTorch writes it; `legacy` is PyTorch's format before version 1.6."""
    if published.paddle:
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


def cirtorch(*, pooling: str = "gem", whitened: bool = True, learned: str | None = None) -> Published:
    """cnnimageretrieval-pytorch: pooling, L2; then, if the network whitens, a linear layer and L2 (imageretrievalnet.py).

    Args:
        pooling: gem, mac (maximum) or spoc (average).
        whitened: whether the network has its linear layer.
        learned: which of the whitenings of `meta["Lw"]` is applied to the descriptor (whiten.py: P · (x - m), then L2).
    """
    random, names = Random(1), sequential("features.")
    body = backbone(names, random)
    head = {"pool.p": torch.tensor([2.7])} if pooling == "gem" else {}
    if whitened:
        head |= {"whiten.weight": random.normal(FEATURES, FEATURES, scale=0.2), "whiten.bias": random.normal(FEATURES)}
    mean, std = (0.4, 0.5, 0.45), (0.21, 0.22, 0.23)
    matrices = {
        scale: {"m": random.normal(FEATURES, 1) * 0.1, "P": random.normal(FEATURES, FEATURES)} for scale in ("ss", "ms")
    }
    learnt = {scale: {key: value.double().numpy() for key, value in pair.items()} for scale, pair in matrices.items()}
    meta = {
        "architecture": "resnet50",
        "pooling": pooling,
        "whitening": whitened,
        "local_whitening": False,
        "regional": False,
    }
    meta |= {"mean": list(mean), "std": list(std), "outputdim": FEATURES, "Lw": {"retrieval-SfM-120k": learnt}}

    def descriptors(pixels: np.ndarray) -> Tensor:
        features = last_map(normalised(pixels, mean=mean, std=std), body, names)
        pooled = {
            "gem": lambda: gem(features, head["pool.p"]),
            "mac": lambda: features.amax((2, 3)),
            "spoc": lambda: features.mean((2, 3)),
        }
        x = unit(pooled[pooling]())
        x = unit(F.linear(x, head["whiten.weight"], head["whiten.bias"])) if whitened else x
        if learned is None:
            return x
        pair = matrices[learned.rpartition("/")[2]]
        return unit((pair["P"] @ (x.T - pair["m"])).T)

    expected: dict[str, Any] = {
        "pool": {"gem": "gem", "mac": "max", "spoc": "avg"}[pooling],
        "gem_p_learned": pooling == "gem",
    }
    expected |= {"neck": "none", "embedding_size": FEATURES}
    if whitened or learned:
        expected |= {"neck": "linear", "neck_bias": True, "l2_before_neck": True}
    expected |= {"whitened_from": FEATURES} if whitened and learned else {}
    state = {"epoch": 12, "meta": meta, "state_dict": body | head, "min_loss": 0.2}
    steps = [{"gem": "GeM", "mac": "maximum", "spoc": "average"}[pooling], "L2"]
    steps += ["whitening with a bias, L2"] * whitened + ["learned whitening of the file, L2"] * bool(learned)
    return Published(
        "cnnimageretrieval-pytorch", ", ".join(steps), state, descriptors, expected, stated={"whitening": learned}
    )


def dirtorch(*, norm_features: bool = False, without_fc: bool = False, whitening: str | None = None) -> Published:
    """deep-image-retrieval: GeM, L2 if `norm_features`, a linear layer, L2 (rmac_resnet.py); then scikit-learn's PCA (common.py)."""
    random, names = Random(2), torchvision("module.")
    body, size = backbone(names, random), 96
    head = {"module.adpool.p": torch.tensor([3.2])}
    head |= {
        "module.fc.weight": random.normal(size, FEATURES, scale=0.2),
        "module.fc.bias": random.normal(size, scale=0.3),
    }
    kept = 40
    attributes = {"components_": random.normal(kept, size).numpy(), "mean_": random.normal(size).numpy() * 0.1}
    attributes |= {"explained_variance_": random.between(0.01, 2, kept).numpy(), "whiten": True, "n_components": kept}
    options = {"arch": "resnet50_rmac", "out_dim": size, "pooling": "gem", "gemp": 3, "norm_features": norm_features}
    options |= {"without_fc": without_fc}

    def descriptors(pixels: np.ndarray) -> Tensor:
        x = gem(last_map(normalised(pixels), body, names), head["module.adpool.p"])
        x = unit(x) if norm_features else x
        x = unit(x if without_fc else F.linear(x, head["module.fc.weight"], head["module.fc.bias"]))
        if whitening is None:
            return x
        projected = (x.numpy() - attributes["mean_"]) @ attributes["components_"].T
        return unit(torch.from_numpy(projected / attributes["explained_variance_"] ** 0.25))

    expected = {"neck_bias": True, "embedding_size": size, "l2_before_neck": norm_features}
    expected = {"neck": "none", "embedding_size": FEATURES} if without_fc else expected
    expected |= {"embedding_size": kept, "whitened_from": size} if whitening else {}
    state = {
        "iter": 7,
        "state_dict": body | head,
        "model_options": options,
        "pca": {"Landmarks_clean": PCA(**attributes)},
    }
    linear = ["L2"] if without_fc else ["linear with a bias, L2"]
    steps = ["GeM"] + ["L2"] * norm_features + linear + ["PCA of the file, L2"] * bool(whitening)
    return Published(
        "deep-image-retrieval",
        ", ".join(steps),
        state,
        descriptors,
        expected,
        stated={"whitening": whitening},
        left_out=("module.fc.weight", "module.fc.bias") if without_fc else (),
    )


def cvnet(prefix: str = "encoder_q.") -> Published:
    """CVNet (model/resnet.py), and DELG's global part under `globalmodel.`: GeM and a linear layer with a bias; BGR images."""
    random, names = Random(3), pycls(prefix)
    body, size = backbone(names, random), 80
    head = {f"{prefix}head.pool.p": torch.tensor([3.0])}
    head |= {
        f"{prefix}head.fc.weight": random.normal(size, FEATURES, scale=0.2),
        f"{prefix}head.fc.bias": random.normal(size),
    }
    others = {"conv2ds.0.weight": random.normal(4, 24, 3, 3), "localmodel.conv1.weight": random.normal(4, 24, 1, 1)}
    others |= {"desc_cls.weight": random.normal(5, size), "att_cls.fc.weight": random.normal(5, 4)}

    def descriptors(pixels: np.ndarray) -> Tensor:
        x = gem(last_map(normalised(pixels, bgr=True), body, names), head[f"{prefix}head.pool.p"])
        return unit(F.linear(x, head[f"{prefix}head.fc.weight"], head[f"{prefix}head.fc.bias"]))

    others = others if prefix else {}
    return Published(
        "DELG" if prefix.startswith("global") else "CVNet",
        f"GeM, linear with a bias, L2; BGR; under `{prefix}`" if prefix else "GeM, linear with a bias, L2; BGR",
        {"epoch": 3, "model_state": body | head | others, "cfg": "MODEL: {DEPTH: 50}"},
        descriptors,
        {"neck_bias": True, "embedding_size": size},
        channels="bgr",
        left_out=tuple(others),
    )


def pymetric(names: Names, whose: str) -> Published:
    """pymetric (linear_head.py): GeM, and a linear layer without a bias; BGR images."""
    random = Random(4)
    body, size = backbone(names, random), 64
    head = {"head.pool_layer.p": torch.tensor([2.9]), "head.embedding_layer.weight": random.normal(size, FEATURES)}
    others = {"head.classifier.weight": random.normal(9, size), "head.classifier.t": random.normal(1)}

    def descriptors(pixels: np.ndarray) -> Tensor:
        x = gem(last_map(normalised(pixels, bgr=True), body, names), head["head.pool_layer.p"])
        return unit(F.linear(x, head["head.embedding_layer.weight"]))

    state = {"epoch": 3, "model_state": body | head | others, "cfg": "MODEL: {DEPTH: 50}"}
    return Published(
        "pymetric",
        f"GeM, linear without a bias, L2; BGR; {whose} names",
        state,
        descriptors,
        {"embedding_size": size},
        channels="bgr",
        left_out=tuple(others),
    )


def fast_reid(
    *, reduced: bool = False, bnneck: bool = True, pool: str = "gem", last_stride: int = 1, old: bool = False
) -> Published:
    """fast-reid (embedding_head.py): pooling; a 1×1 convolution if `reduced`; BatchNorm if `bnneck`. RGB from 0 to 255 in buffers.

    `old` is a version before 1.0 (bnneck_head.py), which pads the stem's pooling.
    """
    random, names = Random(5), torchvision("backbone.")
    body, size = backbone(names, random), 56 if reduced else FEATURES
    norm = random.norm(names, "heads.bnneck" if old else f"heads.bottleneck.{int(reduced)}", size) if bnneck else {}
    head = norm | ({"heads.bottleneck.0.weight": random.normal(size, FEATURES, 1, 1, scale=0.2)} if reduced else {})
    head |= {"heads.pool_layer.p": torch.tensor([3.1])} if pool == "gem" else {}
    mean, std = (120.0, 116.0, 103.0), (58.0, 57.0, 56.0)
    buffers = {key: torch.tensor(value).view(1, 3, 1, 1) for key, value in (("pixel_mean", mean), ("pixel_std", std))}

    def descriptors(pixels: np.ndarray) -> Tensor:
        images = (
            torch.from_numpy(pixels.transpose(0, 3, 1, 2)).float().sub(buffers["pixel_mean"]).div(buffers["pixel_std"])
        )
        features = last_map(images, body, names, last_stride=last_stride, ceil=not old)
        x = {
            "gem": lambda: gem(features, head["heads.pool_layer.p"]),
            "avg": lambda: features.mean((2, 3)),
            "max": lambda: features.amax((2, 3)),
        }[pool]()
        x = F.conv2d(x[:, :, None, None], head["heads.bottleneck.0.weight"])[:, :, 0, 0] if reduced else x
        if bnneck:
            weight, bias, average, variance = norm.values()
            x = F.batch_norm(x, average, variance, weight, bias)
        return unit(x)

    neck = {(True, True): "linear_bn", (True, False): "linear", (False, True): "bn", (False, False): "none"}[
        reduced, bnneck
    ]
    stated = {"last_stride": last_stride} if last_stride != 1 else {}
    steps = [{"gem": "GeM", "avg": "average", "max": "maximum"}[pool]]
    steps += ["1×1 convolution"] * reduced + ["BatchNorm"] * bnneck + ["L2"]
    classes = "heads.classifier.weight" if old else "heads.weight"
    return Published(
        "fast-reid before 1.0" if old else "fast-reid",
        f"{', '.join(steps)}; last stride {last_stride}" + ("" if old else ", stem's pooling not padded"),
        {"model": body | head | buffers | {classes: random.normal(7, size)}, "optimizer": {}},
        descriptors,
        {"pool": pool, "gem_p_learned": pool == "gem", "neck": neck, "embedding_size": size},
        {"last_stride": last_stride, "stem_pool": "padded" if old else "ceil"},
        stated=stated | ({"pool": pool} if pool == "max" else {}),
        left_out=(classes,),
    )


def rec_model(neck: str, *, last_stride: int, usual: bool = True) -> Published:
    """PaddleClas' RecModel: average pooling, and a linear layer (FC), a 1×1 convolution (VehicleNeck) or BatchNorm (BNNeck)."""
    random, names = Random(6), paddleclas("backbone.")
    body, size = backbone(names, random), FEATURES if neck == "feat_bn" else 48
    if neck == "feat_bn":
        head = random.norm(names, "neck.feat_bn", size)
    else:
        kernel = (1, 1) if neck == "conv" else ()
        head = {
            f"neck.{neck}.weight": random.normal(size, FEATURES, *kernel, scale=0.2),
            f"neck.{neck}.bias": random.normal(size),
        }
    others = {"head.weight": random.normal(size, 7)}
    kinds = {"fc": "linear with a bias", "conv": "1×1 convolution with a bias", "feat_bn": "BatchNorm"}

    def descriptors(pixels: np.ndarray) -> Tensor:
        x = last_map(normalised(pixels), body, names, last_stride=last_stride).mean((2, 3))
        if neck == "feat_bn":
            weight, bias, average, variance = head.values()
            return unit(F.batch_norm(x, average, variance, weight, bias))
        return unit(F.linear(x, head[f"neck.{neck}.weight"].reshape(size, FEATURES), head[f"neck.{neck}.bias"]))

    expected = {"pool": "avg", "gem_p_learned": False, "embedding_size": size}
    expected |= {"neck": "bn"} if neck == "feat_bn" else {"neck_bias": True}
    stride = {"last_stride": last_stride}
    stated = {} if usual else stride
    return Published(
        "PaddleClas",
        f"average, {kinds[neck]}, L2; last stride {last_stride}",
        body | head | others,
        descriptors,
        expected,
        stride,
        stated=stated,
        left_out=tuple(others),
    )


NETWORKS: dict[str, Callable[[], Published]] = {
    "cirtorch": cirtorch,
    "cirtorch, maximum": partial(cirtorch, pooling="mac"),
    "cirtorch, average, not whitened": partial(cirtorch, pooling="spoc", whitened=False),
    "cirtorch, Lw": partial(cirtorch, whitened=False, learned="retrieval-SfM-120k/ms"),
    "cirtorch, whitened twice": partial(cirtorch, learned="retrieval-SfM-120k/ss"),
    "dirtorch": dirtorch,
    "dirtorch, normalised features": partial(dirtorch, norm_features=True),
    "dirtorch, its linear layer unused": partial(dirtorch, without_fc=True),
    "dirtorch, PCA": partial(dirtorch, whitening="Landmarks_clean"),
    "CVNet": cvnet,
    "DELG": partial(cvnet, "globalmodel."),
    "CVNet, the encoder alone": partial(cvnet, ""),
    "pymetric": partial(pymetric, pycls("backbone."), "pycls'"),
    "pymetric, torchvision's names": partial(pymetric, torchvision("backbone."), "torchvision's"),
    "fast-reid, GeM, BNNeck": fast_reid,
    "fast-reid before 1.0, BNNeck": partial(fast_reid, old=True),
    "fast-reid, average": partial(fast_reid, pool="avg", last_stride=2),
    "fast-reid, maximum, no neck": partial(fast_reid, pool="max", bnneck=False),
    "fast-reid, reduced": partial(fast_reid, reduced=True),
    "fast-reid, reduced, no BatchNorm": partial(fast_reid, reduced=True, bnneck=False),
    "PaddleClas, FC": partial(rec_model, "fc", last_stride=2),
    "PaddleClas, FC, last stride 1": partial(rec_model, "fc", last_stride=1, usual=False),
    "PaddleClas, VehicleNeck": partial(rec_model, "conv", last_stride=1),
    "PaddleClas, VehicleNeck, last stride 2": partial(rec_model, "conv", last_stride=2, usual=False),
    "PaddleClas, BNNeck": partial(rec_model, "feat_bn", last_stride=2),
}
