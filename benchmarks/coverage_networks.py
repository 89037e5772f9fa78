"""Makes one network of the coverage benchmark with random weights, as its framework's exporter writes it.

Example:
    python -m benchmarks.coverage_networks --family EfficientNet --out FOLDER

FOLDER gets model.onnx, float32 [N, 3, S, S] → [N, D] with N free, and images.npz: `pixels` float32 [N, S, S, 3], the same
normalised as `nhwc`, and `expected`, the descriptors of ONNX Runtime.
"""

import argparse
import contextlib
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
from zoo.files import new_file, new_folder
from zoo.preprocess import normalise
from zoo.specs import PreprocessSpec
from zoo.strict import Count

MODEL, IMAGES = "model.onnx", "images.npz"
OPSET = 17
_CALIBRATING, _COMPARED = 8, 3
"""Pictures that BatchNorm's statistics are measured on, and pictures whose descriptors are compared."""


def write_network(network: Network, folder: Path) -> None:
    """Writes the files named above into an existing folder."""
    random, side = np.random.default_rng(14), network.size
    pixels = np.stack([picture(random, side, side) for _ in range(_CALIBRATING)])
    images = normalise(pixels, PreprocessSpec())
    export = _export_paddle if network.exporter == "paddle" else _export_torch
    exact = export(network, images, folder / MODEL)[-_COMPARED:]
    pixels, images = pixels[-_COMPARED:], images[-_COMPARED:]
    expected = _in_onnx_runtime(folder / MODEL, images)
    with new_file(folder / IMAGES) as partial, open(partial, "wb") as file:
        nhwc = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
        np.savez(file, pixels=pixels, nhwc=nhwc, expected=expected, exact=exact)


def _in_onnx_runtime(path: Path, images: np.ndarray) -> np.ndarray:
    from export import onnx_runtime

    return onnx_runtime.run(onnx_runtime.session(path), images)[0]


def _export_torch(network: Network, images: np.ndarray, path: Path) -> np.ndarray:
    """Exports a network of timm's; returns its own descriptors of `images`, computed in float64."""
    import timm
    import torch

    torch.manual_seed(14)
    model = timm.create_model(network.member, pretrained=False, num_classes=0, **network.options).eval()
    _randomise(model)
    given = torch.from_numpy(images)
    _calibrate(model, given)
    batch = {"dynamic_axes": {INPUT: {0: "N"}}} if network.exporter == "torchscript" else {}
    if network.exporter == "dynamo":
        batch = {"dynamic_shapes": ({0: torch.export.Dim("N")},), "external_data": False}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (given[:2],),
            str(path),
            dynamo=network.exporter == "dynamo",
            opset_version=OPSET if network.exporter == "torchscript" else None,
            input_names=[INPUT],
            **batch,
        )
        return _in_float64(model, given)


def _in_float64(model: Any, images: Any) -> np.ndarray:
    return model.double()(images.double()).numpy()


def _randomise(model: Any) -> None:
    """Gives random values to every vector that starts as a constant: scales and shifts of norms, layer scales, gains.

    As they start, zeros at the end of residual blocks switch the blocks off, and whatever a converter makes of them is right.
    """
    import torch

    with torch.no_grad():
        for name, value in model.named_parameters():
            vector = value.numel() == max(value.shape, default=1)
            if vector and bool((value == value.flatten()[0]).all()):
                shift = name.endswith("bias") or (value.numel() > 1 and not value.any() and "gamma" not in name)
                value.uniform_(*((-0.2, 0.2) if shift else (0.5, 1.5)))


def _calibrate(model: Any, images: Any) -> None:
    """Measures BatchNorm's means and variances on `images`; a layer measures what the layers before it, calibrated, give it."""
    import torch

    norms = [module for module in model.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        model(images)
    for norm in norms:
        norm.eval()


def _export_paddle(network: Network, images: np.ndarray, path: Path) -> np.ndarray:
    """Exports a network of paddle.vision's; returns its own descriptors of `images`."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No ccache found")
        import paddle
    import paddle2onnx

    paddle.seed(14)
    model = _without_classes(getattr(paddle.vision.models, network.member)(num_classes=0, **network.options))
    model.eval()
    random = np.random.default_rng(15)
    norms = [layer for layer in model.sublayers() if isinstance(layer, paddle.nn.BatchNorm2D)]
    for norm in norms:
        norm.weight.set_value(random.uniform(0.5, 1.5, norm.weight.shape).astype(np.float32))
        norm.bias.set_value(random.uniform(-0.2, 0.2, norm.bias.shape).astype(np.float32))
        norm._momentum = 0.0
        norm.train()
    given = paddle.to_tensor(images)
    with paddle.no_grad():
        model(given)
        for norm in norms:
            norm.eval()
        descriptors = model(given).numpy()
    shape = paddle.static.InputSpec([None, *images.shape[1:]], "float32", INPUT)
    program = path.with_name("program")
    paddle.jit.save(paddle.jit.to_static(model, input_spec=[shape], full_graph=True), str(program))
    files = [program.with_suffix(suffix) for suffix in (".json", ".pdiparams")]
    paddle2onnx.export(*map(str, files), str(path), opset_version=OPSET, optimize_tool="None")
    for file in (*files, program.with_suffix(".pdiparams.info")):
        file.unlink(missing_ok=True)
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
