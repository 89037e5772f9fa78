"""A checkpoint → Paddle's own state dict, for code outside of this project (`zoo.write_weights`).

Example:
    python -m paddle_models.write_weights --ckpt resnest50.safetensors --out resnest50.pdparams
"""

from pathlib import Path

import paddle
from paddle import Tensor

from paddle_models.checkpoint import load_weights
from paddle_models.embedder import Embedder
from paddle_models.margins import build_margin
from zoo.checkpoint import Checkpoint
from zoo.command import run
from zoo.write_weights import main


def state_dict(checkpoint: Checkpoint, *, backbone: bool = False) -> dict[str, Tensor]:
    """The checkpoint's tensors under Paddle's names and in its layouts: all of them, or only the backbone's.

    With `backbone` the names are paddle.vision's, without a prefix.
    """
    spec = checkpoint.spec
    model = Embedder(spec)
    if checkpoint.classes:
        model.arc_margin = build_margin(spec.loss, checkpoint.classes, spec.embedding_size, scale=1.0)
    load_weights(model, checkpoint.weights)
    return (model.backbone if backbone else model).state_dict()


def write(checkpoint: Checkpoint, backbone: bool, path: Path) -> None:
    """Saves `state_dict` to a file."""
    paddle.save(state_dict(checkpoint, backbone=backbone), str(path))


if __name__ == "__main__":
    run(lambda: main("paddle", ".pdparams", ("paddle.vision",), write))
