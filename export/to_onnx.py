"""Checkpoint → ONNX by a framework's own exporter (`export.exporters`).

Example:
    python -m export.to_onnx --ckpt runs/demo/checkpoints/resnest14_narrow_paddle.safetensors --out model.onnx
"""

import argparse

import onnx

from export.exporters import export_onnx, trained_in
from zoo.arguments import given_path
from zoo.checkpoint import load_checkpoint
from zoo.command import log, run
from zoo.constants import FRAMEWORKS
from zoo.files import new_file, output_file


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--ckpt", required=True, type=given_path, help="a landmark-zoo checkpoint from either framework"
    )
    parser.add_argument("--out", required=True, type=given_path, help="the ONNX file to write")
    parser.add_argument("--framework", choices=FRAMEWORKS, help="default: the one that trained the checkpoint")
    return parser.parse_args()


def main() -> None:
    """Command line."""
    arguments = parse_arguments()
    with output_file(arguments.out, [arguments.ckpt]):
        checkpoint = load_checkpoint(arguments.ckpt)
        framework = arguments.framework or trained_in(checkpoint)
        model = export_onnx(checkpoint, framework)
        with new_file(arguments.out) as partial:
            onnx.save(model, partial)
    log(f"{checkpoint.spec.name} from {framework}: {len(model.graph.node)} nodes")
    print(arguments.out)


if __name__ == "__main__":
    run(main)
