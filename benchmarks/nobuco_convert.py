"""Checkpoint → Keras by nobuco → SavedModel; runs in the environment that `python -m benchmarks.rivals` makes for it.

Example:
    .rivals/nobuco/bin/python -m benchmarks.nobuco_convert --ckpt resnest50.safetensors --out nobuco_saved_model
"""

import argparse
import contextlib
import sys
from pathlib import Path
from types import ModuleType

import tensorflow as tf
import torch

from torch_models.checkpoint import build
from zoo.checkpoint import load_checkpoint
from zoo.command import run


def import_nobuco() -> ModuleType:
    """nobuco, with a converter for the one operator of our heads that it lacks: `Tensor.sqrt`, in the descriptor's norm.

    It imports torchvision, whose compiled part from the usual wheel does not load beside a CPU build of torch. Residual networks
    use none of its operators, so declaring their names is enough.
    """
    meta = "torchvision._meta_registrations"
    sys.modules.setdefault(meta, ModuleType(meta))
    if not hasattr(torch.ops.torchvision, "nms"):
        library = torch.library.Library("torchvision", "FRAGMENT")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import nobuco

    order = nobuco.ChannelOrderingStrategy.MINIMUM_TRANSPOSITIONS

    @nobuco.converter(torch.Tensor.sqrt, channel_ordering_strategy=order)
    def convert_sqrt(tensor: torch.Tensor):
        return lambda tensor: tf.sqrt(tensor)

    return nobuco


def convert(checkpoint: Path, out: Path) -> None:
    """Writes the SavedModel; its one signature takes normalised float32 [N, size, size, 3]."""
    nobuco = import_nobuco()
    loaded = load_checkpoint(checkpoint)
    size = loaded.spec.preprocess.size
    example = torch.rand(1, 3, size, size)
    keras = nobuco.pytorch_to_keras(
        build(loaded),
        args=[example],
        input_shapes={example: (None, 3, None, None)},
        inputs_channel_order=nobuco.ChannelOrder.TENSORFLOW,
        outputs_channel_order=nobuco.ChannelOrder.TENSORFLOW,
    )
    served = tf.Module()
    served.network = keras  # the module that owns the variables must be saved with them
    images = tf.TensorSpec([None, size, size, 3], tf.float32, name="images")
    function = tf.function(lambda images: {"descriptor": keras(images)}, input_signature=[images])
    tf.saved_model.save(served, str(out), signatures=function)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ckpt", required=True, type=Path, help="a landmark-zoo checkpoint")
    parser.add_argument("--out", required=True, type=Path, help="folder to make")
    arguments = parser.parse_args()
    with contextlib.redirect_stdout(sys.stderr):
        convert(arguments.ckpt, arguments.out)
    print(arguments.out)


if __name__ == "__main__":
    run(main)
