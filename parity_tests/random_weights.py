"""Weights that a swapped axis, a swapped radix, a missing flip or a padding convention cannot survive.

Every tensor is random and asymmetric. BatchNorm statistics are those of pictures that went through the network, then
disturbed: so the signal survives fifty layers and different pictures get different descriptors. With statistics drawn
from nowhere, biases outgrow the signal, all pictures get one descriptor, and every arrow looks exact.
"""

import numpy as np
import torch

from export.probes import pixel_batches
from torch_models.checkpoint import load_weights, read_weights
from torch_models.embedder import Embedder
from zoo.checkpoint import Checkpoint
from zoo.preprocess import normalise
from zoo.specs import ModelSpec
from zoo.weights import is_buffer, parameter_shapes


def random_checkpoint(spec: ModelSpec, seed: int, classes: int = 0, framework: str = "torch") -> Checkpoint:
    """A checkpoint of random weights; `framework` is what its provenance claims."""
    random = np.random.default_rng(seed)
    values = {}
    for name, shape in parameter_shapes(spec, classes).items():
        if name == "pool.p":
            value = np.array([2.6])
        elif name.endswith(("running_var", "running_mean")):
            value = np.full(shape, float(name.endswith("var")))
        elif len(shape) == 4:
            # Attention's logits then spread by about 1: its softmax is far from uniform, and not yet a switch that turns
            # float32's rounding into another answer.
            value = random.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape)
        elif len(shape) == 2:
            value = random.normal(0, 1 / np.sqrt(shape[1]), shape)
        elif name.endswith(".weight"):
            value = random.uniform(0.5, 1.3, shape)
        else:
            value = random.normal(0, 0.3, shape)
        values[name] = value.astype(np.float32)
    statistics = _statistics(spec, values)
    for name, value in statistics.items():
        if name.endswith("running_mean"):
            spread = np.sqrt(np.abs(value).mean() + 1e-3)
            values[name] = (value + 0.1 * spread * random.normal(size=value.shape)).astype(np.float32)
        else:
            # Pooled over a whole map, pictures differ little from each other; divided by that little, the attention of
            # sixteen untrained blocks would enlarge rounding to 2e-5. Its size is measured from zero instead.
            size = statistics[name.replace("_var", "_mean")] ** 2 if ".conv2.bn1." in name else 0.0
            values[name] = ((value + size) * random.uniform(0.7, 1.4, value.shape)).astype(np.float32)
    return Checkpoint(spec, values, classes, {"framework": framework})


def _statistics(spec: ModelSpec, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every BatchNorm's mean and variance over a few pictures."""
    model = Embedder(spec)
    load_weights(model, {name: value for name, value in values.items() if not name.startswith("arc_margin.")})
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.momentum = 1.0  # what counts is this one batch
    pictures = np.concatenate(
        [
            pixel_batches(spec.preprocess.size, seed)[f"b3x{spec.preprocess.size}x{spec.preprocess.size}"]
            for seed in range(4)
        ]
    )
    with torch.no_grad():
        model.train()(torch.from_numpy(normalise(pictures, spec.preprocess)))
    return {name: value for name, value in read_weights(model).items() if is_buffer(name)}
