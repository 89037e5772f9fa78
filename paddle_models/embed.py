"""Descriptors of a checkpoint in Paddle: the reference that exports are compared with (`retrieval.describer`).

Example:
    python -m paddle_models.embed --ckpt resnet50.safetensors --data DATA --split index --out index_store
"""

import numpy as np
import paddle

from paddle_models.checkpoint import build
from retrieval.describer import Batch, Resized, checkpoint_source
from retrieval.embed import checkpoint_command
from zoo.checkpoint import Checkpoint
from zoo.command import run
from zoo.preprocess import normalise


class Describer:
    """A checkpoint's network as `retrieval.describer.Describer`; on a GPU if there is one, which Paddle chooses by itself."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.preprocess, self.model = checkpoint.spec.preprocess, build(checkpoint)
        self.inputs, self.source = (Resized.of(self.preprocess),), checkpoint_source(checkpoint, "paddle")

    def __call__(self, batch: Batch) -> np.ndarray:
        with paddle.no_grad():
            return self.model(paddle.to_tensor(normalise(batch[self.inputs[0]], self.preprocess))).numpy()


if __name__ == "__main__":
    run(lambda: checkpoint_command("paddle", Describer))
