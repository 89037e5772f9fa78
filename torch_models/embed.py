"""Descriptors of a checkpoint in PyTorch: the reference that exports are compared with (`retrieval.describer`).

Example:
    python -m torch_models.embed --ckpt resnet50.safetensors --data DATA --split index --out index_store
"""

import numpy as np
import torch

from retrieval.describer import Batch, Resized, checkpoint_source
from retrieval.embed import checkpoint_command
from torch_models.checkpoint import build
from zoo.checkpoint import Checkpoint
from zoo.command import run
from zoo.preprocess import normalise


class Describer:
    """A checkpoint's network as `retrieval.describer.Describer`; on a GPU if there is one."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self.device.type == "cuda":
            # TF32 has 10 bits: its descriptors would be outside the tolerances between runtimes.
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        self.preprocess, self.model = checkpoint.spec.preprocess, build(checkpoint).to(self.device)
        self.inputs, self.source = (Resized.of(self.preprocess),), checkpoint_source(checkpoint, "torch")

    def __call__(self, batch: Batch) -> np.ndarray:
        with torch.inference_mode():
            images = torch.from_numpy(normalise(batch[self.inputs[0]], self.preprocess)).to(self.device)
            return self.model(images).cpu().numpy()


if __name__ == "__main__":
    run(lambda: checkpoint_command("torch", Describer))
