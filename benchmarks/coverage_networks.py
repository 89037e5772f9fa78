"""Makes one network of the coverage benchmark with random weights, as its framework's exporter writes it.

Example:
    python -m benchmarks.coverage_networks --family EfficientNet --out FOLDER

FOLDER gets model.onnx, float32 [N, 3, S, S] → [N, D] with N free, and images.npz: `pixels` float32 [N, S, S, 3], the same
normalised as `nhwc`, and `expected`, the descriptors of ONNX Runtime.
"""

import argparse
import contextlib
import copy
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.coverage_families import NETWORKS, Network
from export.exporters import INPUT
from export.parity.probes import picture
from zoo.arguments import given_path, ranged
from zoo.command import run
from zoo.disk import temporary_folder
from zoo.files import new_file, new_folder
from zoo.preprocess import normalise
from zoo.specs import PreprocessSpec
from zoo.strict import Count

MODEL, IMAGES = "model.onnx", "images.npz"
OPSET = 17
_CALIBRATING, _COMPARED = 8, 3
"""Pictures that BatchNorm's statistics are measured on, and pictures whose descriptors are compared."""
_SHIFTS, _PRECISE = (0.0, 0.5, 1.0, 1.5), 2e-6
"""Means of the random biases, and the relative error of float32 with which a random network is taken."""


def write_network(network: Network, folder: Path) -> None:
    """Writes the files named above into an existing folder."""
    random, side = np.random.default_rng(14), network.size
    pixels = np.stack([picture(random, side, side) for _ in range(_CALIBRATING)])
    images = normalise(pixels, PreprocessSpec())
    export = _export_paddle if network.exporter == "paddle" else _export_torch
    exact = export(network, images, folder / MODEL)
    pixels, images = pixels[:_COMPARED], images[:_COMPARED]
    expected = _in_onnx_runtime(folder / MODEL, images)
    with new_file(folder / IMAGES) as partial, open(partial, "wb") as file:
        nhwc = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
        np.savez(file, pixels=pixels, nhwc=nhwc, expected=expected, exact=exact)


def _in_onnx_runtime(path: Path, images: np.ndarray) -> np.ndarray:
    from export import onnx_runtime

    return onnx_runtime.run(onnx_runtime.session(path), images)[0]


def _export_torch(network: Network, images: np.ndarray, path: Path) -> np.ndarray:
    """Exports a network of timm's; returns its own descriptors of the compared ones of `images`, in float64."""
    import timm
    import torch

    torch.manual_seed(14)
    model = timm.create_model(network.member, pretrained=False, num_classes=0, **network.options).eval()
    given = torch.from_numpy(images)
    exact = _settle(model, given)
    batch = {"dynamic_axes": {INPUT: {0: "N"}}, "opset_version": OPSET}
    if network.exporter == "dynamo":
        batch = {"dynamic_shapes": ({0: torch.export.Dim("N")},), "external_data": False}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        dynamo = network.exporter == "dynamo"
        torch.onnx.export(model, (given[:2],), str(path), dynamo=dynamo, input_names=[INPUT], **batch)
    return exact


def _settle(model: Any, images: Any) -> np.ndarray:
    """Gives a network random weights with which float32 is precise; returns the compared descriptors in float64.

    Deep random networks with BatchNorm amplify rounding, up to a thousandfold: ONNX Runtime itself would then be wrong by 1e-3, and
    a difference from it would say nothing about a converter. The more the norms shift, the less a ReLU cuts and the less is
    amplified; the first of `_SHIFTS` with which the network is precise is taken, or the best one.
    """
    import torch

    vectors = [(n, v) for n, v in model.named_parameters() if v.numel() == max(v.shape, default=1)]
    biases = [value for name, value in vectors if name.endswith("bias")]
    # Zeros at the end of residual blocks would switch the blocks off, and whatever a converter makes of them would be right.
    scales = [value for name, value in vectors if not name.endswith("bias") and value.min() == value.max()]

    def attempt(shift: float) -> tuple[float, np.ndarray]:
        torch.manual_seed(15)
        with torch.no_grad():
            for value in biases:
                value.uniform_(shift - 0.5, shift + 0.5)
            for value in scales:
                value.uniform_(0.5, 1.5)
            _calibrate(model, images)
            exact = copy.deepcopy(model).double()(images[:_COMPARED].double()).numpy()
            return _error(exact, model(images[:_COMPARED]).numpy()), exact

    errors = []
    for shift in _SHIFTS:
        error, exact = attempt(shift)
        if error <= _PRECISE:
            return exact
        errors.append(error)
    return attempt(_SHIFTS[int(np.argmin(errors))])[1]


def _error(exact: np.ndarray, found: np.ndarray) -> float:
    """The largest difference divided by the largest value; infinite if a value is not finite."""
    error = np.abs(found - exact).max() / np.abs(exact).max()
    return float(error) if np.isfinite(error) else np.inf


def _calibrate(model: Any, images: Any) -> None:
    """Measures BatchNorm's means and variances on `images`, layer by layer in one pass.

    A tenth of the layer's mean variance is added, because channels that are nearly constant would otherwise become noise. Averages of
    maps differ little from picture to picture, so the scale of those is measured from zero.
    """
    import torch

    def measure(norm: Any, given: tuple) -> None:
        axes = [0, *range(2, given[0].dim())]
        mean, variance = given[0].mean(axes), given[0].var(axes, unbiased=False)
        if given[0][0, 0].numel() == 1:
            variance = variance + mean**2
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance + 0.1 * variance.mean())

    norms = [module for module in model.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]
    hooks = [norm.register_forward_pre_hook(measure) for norm in norms]
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()


def _export_paddle(network: Network, images: np.ndarray, path: Path) -> np.ndarray:
    """Exports a network of paddle.vision's; returns its own descriptors of the compared ones of `images`."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No ccache found")
        import paddle
    import paddle2onnx

    paddle.seed(14)
    model = _without_classes(getattr(paddle.vision.models, network.member)(num_classes=0, **network.options))
    model.eval()
    random = np.random.default_rng(15)
    norms: list[Any] = [layer for layer in model.sublayers() if isinstance(layer, paddle.nn.BatchNorm2D)]
    for norm in norms:
        norm.weight.set_value(random.uniform(0.5, 1.5, norm.weight.shape).astype(np.float32))
        norm.bias.set_value(random.uniform(0.5, 1.5, norm.bias.shape).astype(np.float32))
        norm._momentum = 0.0
        norm.train()
    given = paddle.to_tensor(images)
    with paddle.no_grad():
        model(given)
        for norm in norms:
            norm.eval()
        descriptors = model(given[:_COMPARED]).numpy()
    shape = paddle.static.InputSpec([None, *images.shape[1:]], "float32", INPUT)
    with temporary_folder() as work:
        program = work / "program"
        paddle.jit.save(paddle.jit.to_static(model, input_spec=[shape], full_graph=True), str(program))
        structure, weights = (str(program.with_suffix(suffix)) for suffix in (".json", ".pdiparams"))
        paddle2onnx.export(structure, weights, str(path), opset_version=OPSET, optimize_tool="None")
    return descriptors


def _without_classes(model: Any) -> Any:
    """A network that ends in its descriptor: some of paddle.vision's return several outputs, or a map of 1 × 1."""
    import paddle

    class Descriptor(paddle.nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.network = model

        def forward(self, images: Any) -> Any:
            found = self.network(images)
            return paddle.flatten(found[0] if isinstance(found, (list, tuple)) else found, 1)

    return Descriptor()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", required=True, choices=NETWORKS, metavar="FAMILY", help="a key of NETWORKS")
    parser.add_argument("--size", type=ranged(Count), help="side of its images in pixels; default: the family's own")
    parser.add_argument("--out", required=True, type=given_path, help="folder to make")
    arguments = parser.parse_args()
    network = NETWORKS[arguments.family]
    with new_folder(arguments.out) as made, contextlib.redirect_stdout(sys.stderr):
        write_network(replace(network, size=arguments.size or network.size), made)
    print(arguments.out)


if __name__ == "__main__":
    run(main)
