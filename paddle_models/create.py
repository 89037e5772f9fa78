"""Makes a network from its spec, with first weights or with given ones."""

import numpy as np

from paddle_models.checkpoint import load_weights
from paddle_models.embedder import Embedder
from zoo.specs import ModelSpec
from zoo.weights import initial_weights, without_loss


def create_model(spec: ModelSpec, weights: dict[str, np.ndarray] | None = None, seed: int = 0) -> Embedder:
    """The network of a spec in evaluation mode, without the loss' class weights.

    Args:
        spec: the model; `spec.headless()` is its backbone with average pooling only.
        weights: float32 arrays by canonical name, for example `Checkpoint.weights`; class weights among them are
            ignored. None: the values that training starts from (`zoo.weights.initial_weights`), which are the same in
            PyTorch and Paddle.
        seed: of the random values if `weights` is None.

    Raises:
        KeyError: `weights` are those of another spec.
    """
    model = Embedder(spec)
    load_weights(model, initial_weights(spec, (), seed) if weights is None else without_loss(weights))
    model.eval()
    return model
