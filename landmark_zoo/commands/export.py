"""`landmark-zoo export`, `ensemble` and `check`."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from landmark_zoo.commands import Colour, Count, Flag, Json, Pixels, Positive, Scales, Seed, Sides, Weights
from zoo.command import log
from zoo.contest import IMAGES

if TYPE_CHECKING:
    from export.parity import Row


def export(
    *,
    ckpt: Path | None = None,
    onnx: Path | None = None,
    out: Path | None = None,
    size: Pixels | None = None,
    converter: Literal["writer", "onnx2tf"] = "writer",
    static: Flag = False,
    half: Flag = False,
    store: Literal["constants", "variables"] | None = None,
    tf: str = "2.2.0",
    no_verify: Flag = False,
    overwrite: Flag = False,
    as_json: Json = False,
    framework: Literal["torch", "paddle"] | None = None,
    check_sizes: Sides | None = None,
    channels: Literal["rgb", "bgr"] | None = None,
    mean: Colour | None = None,
    std: Colour | None = None,
    resize: Literal["antialias", "bilinear"] | None = None,
    name: str | None = None,
    output: str | None = None,
) -> None:
    """Convert a checkpoint, or any convolutional network as ONNX, to a SavedModel that TensorFlow 2.2 runs, and verify every step.

    Args:
        ckpt: a landmark-zoo checkpoint from either framework.
        onnx: instead: an ONNX file of any convolutional network.
        out: folder to make; default: beside the network's file, under its name.
        size: side in pixels that served images are resized to; default: the spec's; needed for --onnx.
        converter: what makes the SavedModel: the project's own writer, or onnx2tf.
        static: batches have only images of the spec's size, as always with --onnx.
        half: store the weights of convolutions as float16, in half the space.
        store: constants are faster in the current TensorFlow, variables take less memory; default: by size.
        tf: the TensorFlow that must run it, such as 2.13; `landmark-zoo pack` takes the contest's only.
        no_verify: skip all comparisons and the other TensorFlow; `landmark-zoo pack` refuses the result.
        overwrite: replace the folder if it holds something.
        as_json: print the figures as JSON before the path.
        framework: for --ckpt: whose exporter to use; default: the one that trained the checkpoint.
        check_sizes: for --ckpt: further sides in pixels to measure parity at.
        channels: for --onnx: the network's channel order; default: rgb.
        mean: for --onnx: of each channel in that order, 0 to 1; default: ImageNet's.
        std: for --onnx: of each channel in that order, 0 to 1; default: ImageNet's.
        resize: for --onnx: the filter; default: antialias.
        name: for --onnx: of the network in manifests and tables; default: the file's.
        output: for --onnx: the tensor that is its descriptor; default: its only output.
    """
    given = locals()
    from export.network_options import require_fitting
    from landmark_zoo import api

    require_fitting(given)
    common = {"half": half, "store": store, "converter": converter, "tensorflow": tf}
    common |= {"verify": not no_verify, "overwrite": overwrite}
    if ckpt:
        out = out or ckpt.with_suffix("")
        own = {"framework": framework, "size": size, "check_sizes": check_sizes or (), "static": static}
        rows = api.export(ckpt, out, **own, **common)
    else:
        assert onnx is not None  # as `require_fitting` found
        assert size is not None
        out = out or onnx.with_suffix("")
        prepared = {"mean": mean, "std": std, "channels": channels, "resize": resize}
        rows = api.export_onnx(onnx, out, size, name=name, output=output, **prepared, **common)
    _print(rows, out, as_json)


def ensemble(
    *,
    members: list[Path],
    out: Path,
    weights: Weights | None = None,
    scales: Scales | None = None,
    flip: Flag = False,
    norm: Literal["constant", "l2", "none"] = "constant",
    whitening: Path | None = None,
    store: Literal["constants", "variables"] | None = None,
    tf: str = "2.2.0",
    overwrite: Flag = False,
    as_json: Json = False,
) -> None:
    """Combine SavedModels into one whose descriptor is theirs, weighted and concatenated.

    Args:
        members: SavedModels of single models.
        out: folder to make.
        weights: one positive factor per member; default: all 1.
        scales: embed an image at these factors of the resolution; default: only 1.
        flip: embed the mirror image as well.
        norm: how the concatenation is normalised: by one constant, by its own norm, or not at all.
        whitening: PCA whitening as the last layer, a file of `python -m retrieval.whitening`.
        store: constants are faster in the current TensorFlow, variables take less memory; default: by size.
        tf: the TensorFlow that must run it, such as 2.13.
        overwrite: replace the folder if it holds something.
        as_json: print the figures as JSON before the path.
    """
    from landmark_zoo import api

    rows = api.ensemble(
        members,
        out,
        weights=weights,
        scales=scales or (1.0,),
        flip=flip,
        norm=norm,
        whitening=whitening,
        store=store,
        tensorflow=tf,
        overwrite=overwrite,
    )
    _print(rows, out, as_json)


def check(
    saved_model: Path,
    /,
    *,
    tf: str = "2.2.0",
    no_contest: Flag = False,
    side: Count = 448,
    images: Seed = IMAGES,
    gflops: Positive = 2000.0,
    as_json: Json = False,
) -> None:
    """Tell whether a SavedModel loads and runs in the contest's TensorFlow 2.2, without installing that TensorFlow.

    The exit status is 0 if it is accepted, 1 if it is rejected, and 2 if there is no SavedModel to be read.

    Args:
        saved_model: a SavedModel's folder, or a submission.zip.
        tf: version of TensorFlow; "2.4" is the newest 2.4 that there is a registry of.
        no_contest: for models that are not submissions: any signatures, all of which must load and run.
        side: side in pixels of the images for which shapes and time are worked out.
        images: number of images to estimate the time for.
        gflops: GFLOP/s that the machine sustains; the default is a guess for one P100 with one image per call.
        as_json: print the findings as JSON.
    """
    from landmark_zoo import api

    report = api.check(saved_model, tf, contest=not no_contest, side=side)
    from export import check as checked

    shown = (report, images, gflops, side)
    print(json.dumps(checked.as_json(*shown), indent=2) if as_json else "\n".join(checked.describe(*shown)))
    sys.exit(not report.accepted)


def _print(rows: "list[Row]", out: Path, as_json: bool) -> None:
    """The measured rows, and the path of the SavedModel as the last line of stdout."""
    from export.parity import to_json

    for row in rows:
        log(str(row))
    if as_json:
        print(json.dumps({"parity": to_json(rows)}))
    print(out / "saved_model")
