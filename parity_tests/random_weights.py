"""Random weights under which a swapped axis, swapped radix, missing flip or different padding changes the result.

Every tensor is random and asymmetric. BatchNorm statistics are measured on pictures, including flat ones, and
then perturbed, so the signal survives 200 layers and different pictures get different descriptors. With arbitrary statistics,
biases dominate the signal, all pictures get the same descriptor, and every comparison looks exact.
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
    """A checkpoint of random weights; `framework` is stored as the one that trained it."""
    random = np.random.default_rng(seed)
    shapes = parameter_shapes(spec, classes)
    values = {name: _value(spec, name, shape, random).astype(np.float32) for name, shape in shapes.items()}
    statistics = _statistics(spec, values)
    for name, value in statistics.items():
        if name.endswith("running_mean"):
            spread = np.sqrt(np.abs(value).mean() + 1e-3)
            values[name] = (value + 0.1 * spread * random.normal(size=value.shape)).astype(np.float32)
        else:
            # Averaged over a whole map, pictures differ little from each other; divided by that difference, the attention of
            # sixteen untrained blocks would amplify rounding to 2e-5. So its scale is measured from zero instead.
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
        # Attention's logits then have a spread of about 1: the softmax is far from uniform, but not a switch that turns
        # float32 rounding into another result.
        value = random.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape)
        return 0.35 * _share(spec) * value if name.endswith(_last(spec)) else value
    if name.endswith(_last(spec)):
        # A block adds less than its shortcut carries, as in trained networks, whose last scale starts at 0.
        return random.uniform(0.2, 0.5, shape) * _share(spec)
    return random.uniform(0.5, 1.3, shape) if name.endswith(".weight") else random.normal(0, 0.3, shape)


def _last(spec: ModelSpec) -> str:
    """End of the name of the tensor that scales what a block adds to its shortcut."""
    return {"basic": ".bn2.weight", "preactivation": ".conv3.weight"}.get(spec.backbone.block, ".bn3.weight")


def _share(spec: ModelSpec) -> float:
    """Regardless of the number of blocks, they add no more than sixteen do, so rounding stops growing with depth.

    With the share of sixteen for each of ResNeSt-269's 89 blocks, float32 would differ from float64 by 1e-3.
    """
    return min(1, 16 / sum(spec.backbone.depths))


def _statistics(spec: ModelSpec, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every BatchNorm's mean and variance over a few pictures."""
    model = Embedder(spec)
    load_weights(model, without_loss(values))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.momentum = 1.0  # use only this batch's statistics
    # At a small size regardless of the spec's: feature statistics hardly depend on it, and large networks are slow.
    size = min(spec.preprocess.size, 160)
    pictures = [pixel_batches(size, seed)[f"b3x{size}x{size}"] for seed in range(4)]
    # A single pixel is resized to a flat image; without one here, it would be far outside the BatchNorm statistics.
    pictures += [np.full((1, size, size, 3), shade, np.float32) for shade in ((20, 90, 200), (230, 128, 60))]
    with torch.no_grad():
        model.train()(torch.from_numpy(normalise(np.concatenate(pictures), spec.preprocess)))
    return {name: value for name, value in read_weights(model).items() if is_buffer(name)}
