"""What was made from pycls: DELG, CVNet and pymetric, whose images are BGR."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from parity_tests.published.backbones import Backbone, Random, ResNet, gem, normalised, unit
from parity_tests.published.files import PublishedNetwork
from parity_tests.published.names import pycls


def cvnet(prefix: str = "encoder_q.") -> PublishedNetwork:
    """CVNet (model/resnet.py), and DELG's global part under `globalmodel.`: GeM and a linear layer with a bias; BGR images."""
    random, size = Random(3), 80
    body = ResNet(pycls(prefix), random)
    head = {f"{prefix}head.pool.p": torch.tensor([3.0])}
    head |= {
        f"{prefix}head.fc.weight": random.normal(size, body.features, scale=0.2),
        f"{prefix}head.fc.bias": random.normal(size),
    }
    others = {"conv2ds.0.weight": random.normal(4, 24, 3, 3), "localmodel.conv1.weight": random.normal(4, 24, 1, 1)}
    others |= {"desc_cls.weight": random.normal(5, size), "att_cls.fc.weight": random.normal(5, 4)}

    def descriptors(pixels: np.ndarray) -> Tensor:
        x = gem(body.last_map(normalised(pixels, bgr=True)), head[f"{prefix}head.pool.p"])
        return unit(F.linear(x, head[f"{prefix}head.fc.weight"], head[f"{prefix}head.fc.bias"]))

    others = others if prefix else {}
    return PublishedNetwork(
        "DELG" if prefix.startswith("global") else "CVNet",
        body.variant,
        f"GeM, linear with a bias, L2; BGR; under `{prefix}`" if prefix else "GeM, linear with a bias, L2; BGR",
        {"epoch": 3, "model_state": body.tensors | head | others, "cfg": "MODEL: {DEPTH: 50}"},
        descriptors,
        {"neck_bias": True, "embedding_size": size},
        channels="bgr",
        left_out=tuple(others),
    )


def pymetric(make: Callable[[Random], Backbone], described: str) -> PublishedNetwork:
    """pymetric (linear_head.py): GeM, and a linear layer without a bias; BGR images."""
    random, size = Random(4), 64
    body = make(random)
    head = {"head.pool_layer.p": torch.tensor([2.9]), "head.embedding_layer.weight": random.normal(size, body.features)}
    others = {"head.classifier.weight": random.normal(9, size), "head.classifier.t": random.normal(1)}

    def descriptors(pixels: np.ndarray) -> Tensor:
        x = gem(body.last_map(normalised(pixels, bgr=True)), head["head.pool_layer.p"])
        return unit(F.linear(x, head["head.embedding_layer.weight"]))

    state = {"epoch": 3, "model_state": body.tensors | head | others, "cfg": "MODEL: {DEPTH: 50}"}
    return PublishedNetwork(
        "pymetric",
        body.variant,
        f"GeM, linear without a bias, L2; BGR; {described}",
        state,
        descriptors,
        {"embedding_size": size},
        channels="bgr",
        left_out=tuple(others),
    )
