"""Reports the first layer where two backends diverge: a framework, ONNX, the normal form, the current TensorFlow, or 2.2.

Examples:
    python parity_tests/find_divergence.py --ckpt model.safetensors --from torch --to tf22
    python parity_tests/find_divergence.py --ckpt model.safetensors --from torch --to paddle --to-ckpt other.safetensors

Both get the same picture. Between the frameworks every module is compared; otherwise every ReLU that the normal form has
kept, and the descriptor. Errors are relative to the layer's largest value. Prints one line per layer, then the first layer
that differs; the exit status is 1 if the two diverge and 0 if they agree.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

if not __package__:  # run as a file: the packages lie in the repository's root, not in this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

from export import tf22
from export.exporters import export_onnx, trained_in
from export.normal_form.rewrites import normal_form
from export.parity.probes import picture
from parity_tests import taps
from zoo.arguments import ranged
from zoo.checkpoint import Checkpoint, load_checkpoint
from zoo.command import log, run
from zoo.strict import Positive

PLACES = ("torch", "paddle", "onnx", "normal_form", "tf", "tf22")
TOLERANCE = 1e-4
"""Relative to a layer's largest value: 25 times the rounding errors that were measured, at most 4e-6 from torch to paddle, ONNX
and the normal form of every small network (in ResNet-101-IBN-a's layer4) and 2e-6 into TensorFlow 2.2 (ResNeSt-50)."""
SIDE, OTHER_SIDE = 64, 97
"""Height and width in pixels: one is odd, and neither equals a number of channels."""


@dataclass(frozen=True)
class Divergence:
    """Where two backends diverge.

    Attributes:
        layer: the first whose outputs differ by more than the tolerance.
        error: its largest difference, relative to its largest value.
        before: the layer compared just before it, if any.
        error_before: that layer's error.
    """

    layer: str
    error: float
    before: str | None
    error_before: float

    def __str__(self) -> str:
        agreed = (
            f"the last that agrees is {self.before} ({self.error_before:.1e})" if self.before else "no layer agrees"
        )
        return f"they part at {self.layer} ({self.error:.1e} of its size); {agreed}"


def layers_of(checkpoint: Checkpoint, place: str, framework: str, pixels: np.ndarray) -> taps.Layers:
    """The outputs of every layer that a backend still has, in the order of the forward pass.

    Args:
        checkpoint: the network.
        place: one of `PLACES`.
        framework: whose exporter is used for ONNX and what follows.
        pixels: float32 [N, H, W, 3], RGB, 0 to 255.
    """
    if place in ("torch", "paddle"):
        return taps.of_framework(checkpoint, place, pixels)
    spec = checkpoint.spec.preprocess
    original = export_onnx(checkpoint, framework)
    tensors = taps.relu_tensors(original, list(taps.of_framework(checkpoint, framework, pixels)))
    model = original if place == "onnx" else normal_form(original)
    layers = taps.present(model, tensors)
    found = taps.of_onnx(model, layers, pixels, spec)
    if place in ("onnx", "normal_form"):
        return found
    python = tf22.require_python() if place == "tf22" else Path(sys.executable)
    return taps.of_tensorflow(model, layers, pixels, spec, found, python)


def errors(expected: taps.Layers, found: taps.Layers) -> dict[str, float]:
    """Each common layer's largest difference, relative to its largest value; NaN counts as infinite."""
    common = [name for name in expected if name in found]
    return {name: _error(expected[name], found[name]) for name in common}


def _error(expected: np.ndarray, found: np.ndarray) -> float:
    found = found.reshape(expected.shape) if found.size == expected.size else found
    if found.shape != expected.shape or not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return float("inf")
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), np.finfo(np.float32).tiny))


def first_divergence(measured: dict[str, float], tolerance: float = TOLERANCE) -> Divergence | None:
    """The first layer whose error is above the tolerance, or None."""
    before, error_before = None, 0.0
    for name, error in measured.items():
        if error > tolerance:
            return Divergence(name, error, before, error_before)
        before, error_before = name, error
    return None


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ckpt", required=True, type=Path, help="a landmark-zoo checkpoint from either framework")
    parser.add_argument("--from", dest="first", required=True, choices=PLACES)
    parser.add_argument("--to", dest="second", required=True, choices=PLACES)
    parser.add_argument("--to-ckpt", type=Path, help="another checkpoint for the second backend; default: the same one")
    parser.add_argument(
        "--framework",
        choices=PLACES[:2],
        help="whose exporter; default: that of --from, or the one that trained the checkpoint",
    )
    parser.add_argument(
        "--tolerance",
        type=ranged(Positive),
        default=TOLERANCE,
        help="relative to a layer's largest value; default: %(default)s",
    )
    return parser.parse_args()


def main() -> None:
    """Command line."""
    arguments = parse_arguments()
    first = load_checkpoint(arguments.ckpt)
    second = load_checkpoint(arguments.to_ckpt) if arguments.to_ckpt else first
    named = next((place for place in (arguments.first, arguments.second) if place in PLACES[:2]), None)
    framework = arguments.framework or named or trained_in(first)
    random = np.random.default_rng(2210)
    pixels = np.stack([picture(random, SIDE, OTHER_SIDE) for _ in range(2)])
    sides = [
        layers_of(checkpoint, place, framework, pixels)
        for checkpoint, place in ((first, arguments.first), (second, arguments.second))
    ]
    measured = errors(*sides)
    for name, error in measured.items():
        log(f"{'✗' if error > arguments.tolerance else '✓'} {name:44} {error:.1e}")
    found = first_divergence(measured, arguments.tolerance)
    if found is None:
        print(f"they agree: {len(measured)} layers, the worst by {max(measured.values()):.1e} of its size")
        return
    print(found)
    sys.exit(1)


if __name__ == "__main__":
    run(main)
