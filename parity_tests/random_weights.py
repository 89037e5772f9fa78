"""Weights that a swapped axis, a swapped radix, a missing flip or a padding convention cannot survive.

Every tensor is random and asymmetric. BatchNorm statistics are those of pictures, flat ones among them, that went through
the network, then disturbed: so the signal survives two hundred layers and different pictures get different descriptors.
With statistics drawn from nowhere, biases outgrow the signal, all pictures get one descriptor, and every arrow looks exact.
"""

import numpy as np
import torch

from export.parity.probes import pixel_batches
from torch_models.checkpoint import load_weights, read_weights
from torch_models.embedder import Embedder
from zoo.checkpoint import Checkpoint
from zoo.preprocess import normalise
from zoo.specs import ModelSpec
from zoo.weights import is_buffer, parameter_shapes, without_loss


def random_checkpoint(spec: ModelSpec, seed: int, classes: int = 0, framework: str = "torch") -> Checkpoint:
    """A checkpoint of random weights; `framework` is what its provenance claims."""
    random = np.random.default_rng(seed)
    shapes = parameter_shapes(spec, classes)
    values = {name: _value(spec, name, shape, random).astype(np.float32) for name, shape in shapes.items()}
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


def _value(spec: ModelSpec, name: str, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    if name.endswith(".p"):
        return np.array([2.6])
    if name.endswith(".adaptive_scale"):
        return np.full(shape, 8.0)
    if name.endswith((".class_margin", ".mean_cosine")):
        return random.uniform(0.3, 1.0, shape)
    if name.endswith(("running_var", "running_mean")):
        return np.full(shape, float(name.endswith("var")))
    if len(shape) > 1:
        # Attention's logits then spread by about 1: its softmax is far from uniform, and not yet a switch that turns
        # float32's rounding into another answer.
        return random.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape)
    last = ".bn2.weight" if spec.backbone.block == "basic" else ".bn3.weight"
    if name.endswith(last):
        # What a block adds is smaller than what passes by it, as in trained networks, which begin with 0 here, and however
        # many blocks there are, they add no more than sixteen do: rounding then grows no further with depth. With the
        # sixteen's share for each of ResNeSt-269's 89 blocks, float32 would differ from float64 by 1e-3.
        return random.uniform(0.2, 0.5, shape) * min(1, 16 / sum(spec.backbone.depths))
    return random.uniform(0.5, 1.3, shape) if name.endswith(".weight") else random.normal(0, 0.3, shape)


def _statistics(spec: ModelSpec, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every BatchNorm's mean and variance over a few pictures."""
    model = Embedder(spec)
    load_weights(model, without_loss(values))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.momentum = 1.0  # what counts is this one batch
    # At a modest size whatever the spec serves: statistics of features hardly depend on it, and large nets take long.
    size = min(spec.preprocess.size, 160)
    pictures = [pixel_batches(size, seed)[f"b3x{size}x{size}"] for seed in range(4)]
    # A flat image is what a single pixel is resized to; left out, it would lie far outside what BatchNorm expects.
    pictures += [np.full((1, size, size, 3), shade, np.float32) for shade in ((20, 90, 200), (230, 128, 60))]
    with torch.no_grad():
        model.train()(torch.from_numpy(normalise(np.concatenate(pictures), spec.preprocess)))
    return {name: value for name, value in read_weights(model).items() if is_buffer(name)}
