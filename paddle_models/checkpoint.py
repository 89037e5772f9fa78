"""Loads checkpoints into Paddle layers and reads them back. Only this module knows Paddle's own names and layouts."""

import numpy as np
import paddle
from paddle import nn

from paddle_models.embedder import Embedder
from zoo.checkpoint import Checkpoint
from zoo.weights import without_loss

_RENAMED = {"_mean": "running_mean", "_variance": "running_var", "scale": "weight"}


def build(checkpoint: Checkpoint) -> Embedder:
    """The checkpoint's network in evaluation mode, without the class weights."""
    model = Embedder(checkpoint.spec)
    load_weights(model, without_loss(checkpoint.weights))
    model.eval()
    return model


def load_weights(model: nn.Layer, weights: dict[str, np.ndarray]) -> None:
    """Copies arrays by canonical name into a layer.

    Raises:
        KeyError: the names are not exactly those of the layer's tensors.
    """
    own = canonical_tensors(model)
    if own.keys() != weights.keys():
        raise KeyError(f"tensors differ: {sorted(own.keys() ^ weights.keys())[:4]}")
    for name, tensor in own.items():
        tensor.set_value(to_paddle(name, weights[name]))


def read_weights(model: nn.Layer) -> dict[str, np.ndarray]:
    """Copies of a layer's tensors by canonical name."""
    return {name: from_paddle(name, tensor.numpy()) for name, tensor in canonical_tensors(model).items()}


def canonical_tensors(model: nn.Layer) -> dict[str, paddle.Tensor]:
    """The layer's tensors (not copies) by canonical name, in Paddle's layout."""
    named = {}
    for name, tensor in model.state_dict().items():
        parent, _, last = name.rpartition(".")
        named[f"{parent}.{_RENAMED.get(last, last)}" if parent else name] = tensor
    return named


def to_paddle(name: str, value: np.ndarray) -> np.ndarray:
    """A canonical array in Paddle's layout: a linear layer's weight is [in, out] instead of [out, in]."""
    return np.ascontiguousarray(value.T if name.endswith("linear.weight") else value)


def from_paddle(name: str, value: np.ndarray) -> np.ndarray:
    """A copy in the canonical layout: the inverse of `to_paddle`."""
    return np.array(value.T if name.endswith("linear.weight") else value, order="C")
