"""PaddleClas' RecModel."""

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from parity_tests.published.backbones import Random, ResNet, batch_norm, normalised, unit
from parity_tests.published.files import PublishedNetwork
from parity_tests.published.names import paddleclas


def rec_model(neck: str, *, last_stride: int, usual: bool = True) -> PublishedNetwork:
    """PaddleClas' RecModel: average pooling, and a linear layer (FC), a 1×1 convolution (VehicleNeck) or BatchNorm (BNNeck)."""
    random, names = Random(6), paddleclas("backbone.")
    body = ResNet(names, random)
    size = body.features if neck == "feat_bn" else 48
    if neck == "feat_bn":
        head = random.norm("neck.feat_bn", size, names.mean, names.variance)
    else:
        kernel = (1, 1) if neck == "conv" else ()
        head = {
            f"neck.{neck}.weight": random.normal(size, body.features, *kernel, scale=0.2),
            f"neck.{neck}.bias": random.normal(size),
        }
    others = {"head.weight": random.normal(size, 7)}
    kinds = {"fc": "linear with a bias", "conv": "1×1 convolution with a bias", "feat_bn": "BatchNorm"}

    def descriptors(pixels: np.ndarray) -> Tensor:
        x = body.last_map(normalised(pixels), last_stride=last_stride).mean((2, 3))
        if neck == "feat_bn":
            return unit(batch_norm(x, head, "neck.feat_bn", names.mean, names.variance))
        return unit(F.linear(x, head[f"neck.{neck}.weight"].reshape(size, body.features), head[f"neck.{neck}.bias"]))

    expected = {"pool": "avg", "gem_p_learned": False, "embedding_size": size}
    expected |= {"neck": "bn"} if neck == "feat_bn" else {"neck_bias": True}
    stride = {"last_stride": last_stride}
    stated = {} if usual else stride
    return PublishedNetwork(
        "PaddleClas",
        body.variant,
        f"average, {kinds[neck]}, L2; last stride {last_stride}",
        body.tensors | head | others,
        descriptors,
        expected,
        stride,
        stated=stated,
        left_out=tuple(others),
        framework="paddle",
    )
