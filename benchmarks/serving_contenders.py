"""The contenders of the serving benchmark: the files that each runs, its environment and its job."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from benchmarks import rivals
from benchmarks.rivals import ROOT, Environment
from benchmarks.serving_tables import NOBUCO_TF, TF22, TODAY
from export import tf22
from export.exporters import INPUT
from export.parity.probes import picture
from parity_tests.random_weights import random_checkpoint
from zoo.checkpoint import save_checkpoint
from zoo.command import log
from zoo.errors import ExportError
from zoo.files import new_file, new_folder
from zoo.preprocess import normalise
from zoo.signature import BATCH_SIGNATURE, CONTEST_SIGNATURE
from zoo.specs import PreprocessSpec
from zoo.variants import get_spec

SIZE, PHOTO = 224, (600, 800)

HAND_WRITTEN = {"resnet50": "keras.applications", "resnest50": "keras-cv-attention-models"}
"""Keras implementations of a variant. keras.applications' ResNet-50 has its stride in the 1×1 convolution and so 6 % less
arithmetic than the others; both have their own random weights and end at the averaged features."""
_WORKER = ("benchmarks/serving_worker.py",)
_NETWORKS = ("-m", "benchmarks.serving_networks")


@dataclass(frozen=True)
class Contender:
    """One process with one or more forms.

    Attributes:
        peer: whose network or runtime it is.
        where: the TensorFlow that runs it, or the runtime's own name.
        environment: the python.
        script: what it runs.
        job: the worker's job, without inputs and threads.
        array: which of `write_inputs`' arrays it reads.
        same_weights: it computes our checkpoint's descriptors, so its output is compared.
        failed: {form: why it could not be made}.
    """

    peer: str
    where: str
    environment: Environment
    script: tuple[str, ...]
    job: dict
    array: str
    same_weights: bool
    failed: dict[str, str]


def environments() -> dict[str, Environment]:
    """{what runs there: environment}.

    Raises:
        MissingToolError: one of them is missing; the message gives the command that makes it.
    """
    return {
        TF22: Environment(tf22.require_python()),
        TODAY: Environment(Path(sys.executable)),
        NOBUCO_TF: rivals.require("nobuco"),
        "keras": rivals.require("keras"),
    }


def write_inputs(path: Path, rows: int, spec: PreprocessSpec) -> None:
    """The same pictures in every layout: pixels, normalised [N, 3, H, W] and [N, H, W, 3]; and a photograph to resize."""
    random = np.random.default_rng(2020)
    pixels = np.stack([picture(random, SIZE, SIZE) for _ in range(rows)])
    nchw = normalise(pixels, spec)
    nhwc = np.ascontiguousarray(nchw.transpose(0, 2, 3, 1))
    with new_file(path) as partial, open(partial, "wb") as file:
        np.savez(file, pixels=pixels, nchw=nchw, nhwc=nhwc, photo=picture(random, *PHOTO).astype(np.uint8))


def contenders(model: str, work: Path) -> list[Contender]:
    """Makes what `work` lacks: checkpoint, our export, the other conversions. A conversion that fails is recorded as failed."""
    where = environments()
    checkpoint, ours = work / "model.safetensors", work / "ours"
    _made(checkpoint, lambda: _write_checkpoint(model, checkpoint))
    export = ("export/to_savedmodel.py", "--ckpt", checkpoint, "--out", ours, "--framework", "torch")
    _made(ours, lambda: _run(where[TODAY], *export))
    static = work / "ours_static"
    store = ("-m", "export.writer", "--onnx", ours / "normal_form.onnx", "--static", "--out", static)
    _made(static, lambda: _run(where[TODAY], *store))
    fixed = work / f"model_{SIZE}.onnx"
    _made(fixed, lambda: _fix_size(ours / "model.onnx", fixed))
    # "224 px": with a fixed size onnx2tf can compute paddings, with a dynamic one it cannot.
    sources = {"as exported": ours / "model.onnx", f"{SIZE} px": fixed}
    alone = {form: work / f"onnx2tf_{path.stem}" for form, path in sources.items()}
    onnx2tf_failed = {form: _try(alone[form], _onnx2tf(where[TODAY], path)) for form, path in sources.items()}
    nobuco = work / "nobuco"
    nobuco_failed = _try(nobuco, _nobuco(where[NOBUCO_TF], checkpoint))

    def saved(peer: str, tf: str, forms: dict, array: str, failed: dict[str, str | None]) -> Contender:
        failed = {form: why for form, why in failed.items() if why}
        forms = {form: value for form, value in forms.items() if form not in failed}
        job = {"kind": "saved_model", "forms": forms}
        return Contender(peer, tf, where[tf], _WORKER, job, array, True, failed)

    served = {
        "any size": [str(ours / "saved_model"), BATCH_SIGNATURE],
        f"{SIZE} px": [str(static), BATCH_SIGNATURE],
        CONTEST_SIGNATURE: [str(ours / "saved_model"), CONTEST_SIGNATURE],
    }
    converted = {form: [str(folder), "serving_default"] for form, folder in alone.items()}
    of_nobuco = {"tf.function": [str(nobuco), "serving_default"], "frozen": [str(nobuco), "serving_default", "frozen"]}
    found = []
    for tf in (TODAY, TF22):
        found.append(saved("ours", tf, served, "pixels", {}))
        found.append(saved("onnx2tf only", tf, converted, "nhwc", onnx2tf_failed))
    for tf in (NOBUCO_TF, TF22):
        found.append(saved("nobuco", tf, of_nobuco, "nhwc", dict.fromkeys(of_nobuco, nobuco_failed)))
    if model in HAND_WRITTEN:
        job = {"kind": "keras", "network": model, "size": SIZE}
        found.append(Contender(HAND_WRITTEN[model], TODAY, where["keras"], _WORKER, job, "nhwc", False, {}))
        if model == "resnet50":  # keras-cv-attention-models does not import in TensorFlow 2.2
            found.append(Contender(HAND_WRITTEN[model], TF22, where[TF22], _WORKER, job, "nhwc", False, {}))
    files = {"model.onnx": str(ours / "model.onnx"), "normal_form.onnx": str(ours / "normal_form.onnx")}
    for peer, script, job in (
        ("ONNX Runtime", _WORKER, {"kind": "onnx", "forms": files}),
        ("PyTorch", _NETWORKS, {"kind": "torch", "checkpoint": str(checkpoint)}),
        ("Paddle", _NETWORKS, {"kind": "paddle", "checkpoint": str(checkpoint)}),
    ):
        found.append(Contender(peer, peer, where[TODAY], script, job, "nchw", True, {}))
    return found


def _write_checkpoint(model: str, path: Path) -> None:
    save_checkpoint(path, random_checkpoint(get_spec(model).resized(SIZE), seed=1))


def _fix_size(source: Path, path: Path) -> None:
    """The framework's own ONNX file with a fixed image size and a dynamic batch."""
    model = onnx.load(source)
    for dimension in next(i for i in model.graph.input if i.name == INPUT).type.tensor_type.shape.dim[2:]:
        dimension.Clear()
        dimension.dim_value = SIZE
    with new_file(path) as partial:
        onnx.save(model, partial)


def _onnx2tf(environment: Environment, source: Path) -> Callable[[Path], None]:
    command = ("-m", "onnx2tf", "-i", source, "-osd", "-n")
    return lambda folder: _run(environment, *command, "-o", folder)


def _nobuco(environment: Environment, checkpoint: Path) -> Callable[[Path], None]:
    command = ("-m", "benchmarks.nobuco_convert", "--ckpt", checkpoint)
    return lambda folder: _run(environment, *command, "--out", folder)


def _made(path: Path, make: Callable[[], object]) -> None:
    if not path.exists():
        log(f"… {path.name}")
        make()


def _try(folder: Path, convert: Callable[[Path], None]) -> str | None:
    """Converts into `folder` atomically; returns the reason if it failed, or None."""

    def make() -> None:
        with new_folder(folder) as made:
            convert(made)

    try:
        _made(folder, make)
    except ExportError as error:
        return str(error)
    return None


def _run(environment: Environment, *command: str | Path) -> None:
    """Raises `ExportError` with the last line of a failed command's stderr."""
    done = subprocess.run(
        [environment.python, *command], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise ExportError((done.stderr.strip() or "no output").splitlines()[-1][:160])
