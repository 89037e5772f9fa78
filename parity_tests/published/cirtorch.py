"""cnnimageretrieval-pytorch."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from parity_tests.published.backbones import Random, ResNet, gem, normalised, unit
from parity_tests.published.files import PublishedNetwork
from parity_tests.published.names import sequential


def cirtorch(*, pooling: str = "gem", whitened: bool = True, learned: str | None = None) -> PublishedNetwork:
    """cnnimageretrieval-pytorch: pooling, L2; then, if the network whitens, a linear layer and L2 (imageretrievalnet.py).

    Args:
        pooling: gem, mac (maximum) or spoc (average).
        whitened: whether the network has its linear layer.
        learned: which of the whitenings of `meta["Lw"]` is applied to the descriptor (whiten.py: P · (x - m), then L2).
    """
    random = Random(1)
    body = ResNet(sequential("features."), random)
    size = body.features
    head = {"pool.p": torch.tensor([2.7])} if pooling == "gem" else {}
    if whitened:
        head |= {"whiten.weight": random.normal(size, size, scale=0.2), "whiten.bias": random.normal(size)}
    mean, std = (0.4, 0.5, 0.45), (0.21, 0.22, 0.23)
    matrices = {scale: {"m": random.normal(size, 1) * 0.1, "P": random.normal(size, size)} for scale in ("ss", "ms")}
    learnt = {scale: {key: value.double().numpy() for key, value in pair.items()} for scale, pair in matrices.items()}
    meta = {
        "architecture": "resnet50",
        "pooling": pooling,
        "whitening": whitened,
        "local_whitening": False,
        "regional": False,
    }
    meta |= {"mean": list(mean), "std": list(std), "outputdim": size, "Lw": {"retrieval-SfM-120k": learnt}}

    def descriptors(pixels: np.ndarray) -> Tensor:
        features = body.last_map(normalised(pixels, mean=mean, std=std))
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
    expected |= {"neck": "none", "embedding_size": size}
    if whitened or learned:
        expected |= {"neck": "linear", "neck_bias": True, "l2_before_neck": True}
    expected |= {"whitening_size": size} if whitened and learned else {}
    state = {"epoch": 12, "meta": meta, "state_dict": body.tensors | head, "min_loss": 0.2}
    steps = [{"gem": "GeM", "mac": "maximum", "spoc": "average"}[pooling], "L2"]
    steps += ["whitening with a bias, L2"] * whitened + ["learned whitening of the file, L2"] * bool(learned)
    return PublishedNetwork(
        "cnnimageretrieval-pytorch",
        body.variant,
        ", ".join(steps),
        state,
        descriptors,
        expected,
        stated={"whitening": learned},
    )
