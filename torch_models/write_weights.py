"""A checkpoint → PyTorch's own state dict, for everybody else's code.

Examples:
    python -m torch_models.write_weights --ckpt resnest50.safetensors --out resnest50.pth
    python -m torch_models.write_weights --ckpt resnest50.safetensors --backbone --out backbone.pth

With --backbone the names are timm's and torchvision's, so their networks load it but for the classifier.
`zoo.import_weights` reads both back.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from torch_models.checkpoint import load_weights
from torch_models.embedder import Embedder
from torch_models.margins import build_margin
from zoo.checkpoint import Checkpoint, load_checkpoint
from zoo.command import run
from zoo.files import new_file


def state_dict(checkpoint: Checkpoint, *, backbone: bool = False) -> dict[str, Tensor]:
    """The checkpoint's tensors as PyTorch names and lays them out: all of them, or the backbone's alone."""
    spec = checkpoint.spec
    model = Embedder(spec)
    if checkpoint.classes:
        model.arc_margin = build_margin(spec.loss, checkpoint.classes, spec.head.embedding_size, scale=1.0)
    load_weights(model, checkpoint.weights)
    return (model.backbone if backbone else model).state_dict()


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ckpt", required=True, type=Path, help="a landmark-zoo checkpoint from either framework")
    parser.add_argument("--out", required=True, type=Path, help="the .pth to write")
    parser.add_argument("--backbone", action="store_true", help="the backbone alone, under its published names")
    return parser.parse_args()


def main() -> None:
    """Command line."""
    arguments = parse_arguments()
    state = state_dict(load_checkpoint(arguments.ckpt), backbone=arguments.backbone)
    with new_file(arguments.out) as partial:
        torch.save(state, partial)
    print(arguments.out)


if __name__ == "__main__":
    run(main)
