"""A checkpoint → PyTorch's own state dict, for code outside of this project (`zoo.write_weights`).

Example:
    python -m torch_models.write_weights --ckpt resnest50.safetensors --out resnest50.pth
"""

import io
from pathlib import Path

import torch
from torch import Tensor

from torch_models.checkpoint import load_weights
from torch_models.embedder import Embedder
from torch_models.margins import build_margin
from zoo.checkpoint import Checkpoint
from zoo.command import run
from zoo.write_weights import main


def state_dict(checkpoint: Checkpoint, *, backbone: bool = False) -> dict[str, Tensor]:
    """The checkpoint's tensors under PyTorch's names and in its layouts: all of them, or only the backbone's.

    With `backbone` the names are timm's and torchvision's, without a prefix.
    """
    spec = checkpoint.spec
    model = Embedder(spec)
    if checkpoint.classes:
        model.arc_margin = build_margin(spec.loss, checkpoint.classes, spec.embedding_size, scale=1.0)
    load_weights(model, checkpoint.weights)
    return (model.backbone if backbone else model).state_dict()


def write(checkpoint: Checkpoint, backbone: bool, path: Path) -> None:
    """Saves `state_dict` to a file."""
    content = io.BytesIO()  # PyTorch's own writer reports a full disk as a RuntimeError without a reason
    torch.save(state_dict(checkpoint, backbone=backbone), content)
    path.write_bytes(content.getbuffer())


if __name__ == "__main__":
    run(lambda: main("torch", ".pth", ("timm", "torchvision", "ResNeSt", "IBN-Net"), write))
