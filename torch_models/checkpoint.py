"""Loads checkpoints into PyTorch modules and reads them back. PyTorch's names and layouts are the canonical ones."""

import numpy as np
import torch
from torch import nn

from torch_models.embedder import Embedder
from zoo.checkpoint import Checkpoint
from zoo.weights import without_loss

_NOT_SAVED = ".num_batches_tracked"
"""BatchNorm's count of batches: unused if a momentum is set, and Paddle has none."""


def build(checkpoint: Checkpoint) -> Embedder:
    """The checkpoint's network in evaluation mode, without the class weights."""
    model = Embedder(checkpoint.spec)
    load_weights(model, without_loss(checkpoint.weights))
    return model.eval()


def load_weights(model: nn.Module, weights: dict[str, np.ndarray]) -> None:
    """Copies arrays by canonical name into a module, converted to its dtype.

    Raises:
        KeyError: the names are not exactly those of the module's tensors.
    """
    own = {name: tensor for name, tensor in model.state_dict().items() if not name.endswith(_NOT_SAVED)}
    if own.keys() != weights.keys():
        raise KeyError(f"tensors differ: {sorted(own.keys() ^ weights.keys())[:4]}")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(torch.from_numpy(np.ascontiguousarray(weights[name])))


def read_weights(model: nn.Module) -> dict[str, np.ndarray]:
    """Copies of a module's tensors by canonical name."""
    state = model.state_dict().items()
    return {name: tensor.detach().numpy().copy() for name, tensor in state if not name.endswith(_NOT_SAVED)}
