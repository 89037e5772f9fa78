"""Weights that a swapped axis, a swapped radix, a missing flip or a padding convention cannot survive.

Every tensor is random and asymmetric, BatchNorm statistics included, and convolutions are scaled so that features stay
near 1 in size: where they grow to 1e5, an absolute tolerance says nothing.
"""

import numpy as np

from zoo.checkpoint import Checkpoint
from zoo.specs import ModelSpec
from zoo.weights import parameter_shapes


def random_checkpoint(spec: ModelSpec, seed: int, classes: int = 0, framework: str = "torch") -> Checkpoint:
    """A checkpoint of random weights; `framework` is what its provenance claims."""
    random = np.random.default_rng(seed)
    values = {}
    for name, shape in parameter_shapes(spec, classes).items():
        if name == "pool.p":
            value = np.array([2.6])
        elif name.endswith("running_var"):
            value = random.uniform(0.4, 1.6, shape)
        elif len(shape) == 4:
            # Attention's logits get a wider spread, so that its softmax is far from uniform.
            gain = 4.0 if ".fc" in name else 1.0
            value = random.normal(0, gain / np.sqrt(np.prod(shape[1:])), shape)
        elif len(shape) == 2:
            value = random.normal(0.01, 1 / np.sqrt(shape[1]), shape)
        elif name.endswith(".weight"):
            # The last BatchNorm of a block is small, or the sum over many blocks grows.
            value = (
                random.uniform(0.2, 0.6, shape)
                if ".bn3." in name or ".bn2." in name
                else random.uniform(0.5, 1.3, shape)
            )
        else:
            value = random.normal(0.1, 0.3, shape)
        values[name] = value.astype(np.float32)
    return Checkpoint(spec, values, classes, {"framework": framework})
