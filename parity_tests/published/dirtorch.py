"""deep-image-retrieval."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from parity_tests.published.backbones import Random, ResNet, gem, normalised, unit
from parity_tests.published.files import PCA, PublishedNetwork
from parity_tests.published.names import torchvision


def dirtorch(
    *, basic: bool = False, norm_features: bool = False, without_fc: bool = False, whitening: str | None = None
) -> PublishedNetwork:
    """deep-image-retrieval: GeM, L2 if `norm_features`, a linear layer, L2 (rmac_resnet.py); then scikit-learn's PCA (common.py)."""
    random, size = Random(2), 96
    body = ResNet(torchvision("module."), random, basic=basic)
    head = {"module.adpool.p": torch.tensor([3.2])}
    head |= {
        "module.fc.weight": random.normal(size, body.features, scale=0.2),
        "module.fc.bias": random.normal(size, scale=0.3),
    }
    kept = 40
    attributes = {"components_": random.normal(kept, size).numpy(), "mean_": random.normal(size).numpy() * 0.1}
    attributes |= {"explained_variance_": random.between(0.01, 2, kept).numpy(), "whiten": True, "n_components": kept}
    options = {
        "arch": f"{body.variant}_rmac",
        "out_dim": size,
        "pooling": "gem",
        "gemp": 3,
        "norm_features": norm_features,
    }
    options |= {"without_fc": without_fc}

    def descriptors(pixels: np.ndarray) -> Tensor:
        x = gem(body.last_map(normalised(pixels)), head["module.adpool.p"])
        x = unit(x) if norm_features else x
        x = unit(x if without_fc else F.linear(x, head["module.fc.weight"], head["module.fc.bias"]))
        if whitening is None:
            return x
        projected = (x.numpy() - attributes["mean_"]) @ attributes["components_"].T
        return unit(torch.from_numpy(projected / attributes["explained_variance_"] ** 0.25))

    expected = {"neck_bias": True, "embedding_size": size, "l2_before_neck": norm_features}
    expected = {"neck": "none", "embedding_size": body.features} if without_fc else expected
    expected |= {"whitening_size": kept} if whitening else {}
    state = {
        "iter": 7,
        "state_dict": body.tensors | head,
        "model_options": options,
        "pca": {"Landmarks_clean": PCA(**attributes)},
    }
    linear = ["L2"] if without_fc else ["linear with a bias, L2"]
    steps = ["GeM"] + ["L2"] * norm_features + linear + ["PCA of the file, L2"] * bool(whitening)
    return PublishedNetwork(
        "deep-image-retrieval",
        body.variant,
        ", ".join(steps) + ("; basic blocks" if basic else ""),
        state,
        descriptors,
        expected,
        stated={"whitening": whitening},
        left_out=("module.fc.weight", "module.fc.bias") if without_fc else (),
    )
