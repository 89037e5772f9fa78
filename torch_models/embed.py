"""Descriptors of a checkpoint in PyTorch: the reference that exports are compared with (`retrieval.embed`).

Example:
    python -m torch_models.embed --ckpt resnet50.safetensors --data DATA --split index --out index.safetensors
"""

import numpy as np
import torch

from retrieval.embed import Batch, Resized, checkpoint_command, checkpoint_source
from torch_models.checkpoint import build
from zoo.checkpoint import Checkpoint
from zoo.command import run
from zoo.preprocess import normalise


class Describer:
    """A checkpoint's network as `retrieval.embed.Describer`."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.preprocess, self.model = checkpoint.spec.preprocess, build(checkpoint)
        self.inputs, self.source = (Resized.of(self.preprocess),), checkpoint_source(checkpoint, "torch")

    def __call__(self, batch: Batch) -> np.ndarray:
        with torch.inference_mode():
            return self.model(torch.from_numpy(normalise(batch[self.inputs[0]], self.preprocess))).numpy()


if __name__ == "__main__":
    run(lambda: checkpoint_command("torch", Describer))
