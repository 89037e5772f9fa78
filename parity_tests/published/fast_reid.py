"""fast-reid."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from parity_tests.published.backbones import Backbone, Random, ResNet, batch_norm, gem, unit
from parity_tests.published.files import PublishedNetwork
from parity_tests.published.names import torchvision

RESNET = partial(ResNet, torchvision("backbone."))


def fast_reid(
    *,
    reduced: bool = False,
    bnneck: bool = True,
    pool: str = "gem",
    last_stride: int = 1,
    old: bool = False,
    make: Callable[[Random], Backbone] = RESNET,
    described: str = "",
) -> PublishedNetwork:
    """fast-reid (embedding_head.py): pooling; a 1×1 convolution if `reduced`; BatchNorm if `bnneck`. RGB from 0 to 255 in buffers.

    `old` is a version from before November 2020 (bnneck_head.py), which pads the stem's pooling.
    """
    random = Random(5)
    body = make(random)
    size = 56 if reduced else body.features
    layer = "heads.bnneck" if old else f"heads.bottleneck.{int(reduced)}"
    norm = random.norm(layer, size) if bnneck else {}
    head = norm | (
        {"heads.bottleneck.0.weight": random.normal(size, body.features, 1, 1, scale=0.2)} if reduced else {}
    )
    head |= {"heads.pool_layer.p": torch.tensor([3.1])} if pool == "gem" else {}
    mean, std = (120.0, 116.0, 103.0), (58.0, 57.0, 56.0)
    buffers = {key: torch.tensor(value).view(1, 3, 1, 1) for key, value in (("pixel_mean", mean), ("pixel_std", std))}

    def descriptors(pixels: np.ndarray) -> Tensor:
        images = (
            torch.from_numpy(pixels.transpose(0, 3, 1, 2)).float().sub(buffers["pixel_mean"]).div(buffers["pixel_std"])
        )
        features = body.last_map(images, last_stride=last_stride, ceil=not old)
        x = {
            "gem": lambda: gem(features, head["heads.pool_layer.p"]),
            "avg": lambda: features.mean((2, 3)),
            "max": lambda: features.amax((2, 3)),
        }[pool]()
        x = F.conv2d(x[:, :, None, None], head["heads.bottleneck.0.weight"])[:, :, 0, 0] if reduced else x
        return unit(batch_norm(x, norm, layer) if bnneck else x)

    neck = {(True, True): "linear_bn", (True, False): "linear", (False, True): "bn", (False, False): "none"}[
        reduced, bnneck
    ]
    stated = {"last_stride": last_stride} if last_stride != 1 else {}
    steps = [{"gem": "GeM", "avg": "average", "max": "maximum"}[pool]]
    steps += ["1×1 convolution"] * reduced + ["BatchNorm"] * bnneck + ["L2"]
    classes = "heads.classifier.weight" if old else "heads.weight"
    return PublishedNetwork(
        "fast-reid until October 2020" if old else "fast-reid",
        body.variant,
        f"{', '.join(steps)}; last stride {last_stride}"
        + ("" if old else ", stem's pooling not padded")
        + (f"; {described}" if described else ""),
        {"model": body.tensors | head | buffers | {classes: random.normal(7, size)}, "optimizer": {}},
        descriptors,
        {"pool": pool, "gem_p_learned": pool == "gem", "neck": neck, "embedding_size": size},
        {"last_stride": last_stride, "stem_pool": "padded" if old else "ceil"},
        stated=stated | ({"pool": pool} if pool == "max" else {}),
        left_out=(classes,),
    )
