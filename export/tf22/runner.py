"""Runs SavedModels in a real TensorFlow 2.2.0, or another version, in a separate process.

TensorFlow 2.2 needs Python 3.8, and this process may have imported another TensorFlow. So arrays are exchanged as npz files
with `export/tf22/worker.py`.
"""

import contextlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np

from export.tensorflows import TENSORFLOW
from export.tf22 import environment
from export.zips import check_zip
from zoo.disk import temporary_folder
from zoo.environments import environment_python
from zoo.errors import ExportError, MissingToolError, SubmissionError
from zoo.processes import PARENT, ended_with, ending
from zoo.signature import CONTEST_SIGNATURE

PYTHON_VARIABLE = "LANDMARK_ZOO_TF22_PYTHON"
WORKER = Path(__file__).resolve().parent / "worker.py"
_REFUSED = 3
"""The worker's exit status for a submission that the contest would refuse."""
_LAST_LINES = 20
_CHATTER = re.compile(r"\d{4}-\d\d-\d\d \S+: [EWI] |[EWI]\d{4} |WARNING: All log messages before absl")
"""Lines of TensorFlow's own log, about devices that it does not find. They are shown only in an error's message."""


class Call(TypedDict):
    """One SavedModel, one signature, many inputs.

    With the contest's signature each array of `inputs` is uint8 [H, W, 3] and the only, positional argument of one call; its
    descriptor is stored in `outputs` under the same name. With another signature the arrays are named
    "<call>/<input name>" and passed by keyword, and results are stored as "<call>/<output name>".
    """

    saved_model: str | Path
    inputs: str | Path
    outputs: str | Path
    signature: NotRequired[str]


def find_python(version: str = TENSORFLOW) -> Path | None:
    """The python that has a TensorFlow, or None.

    For 2.2.0 it is that of $LANDMARK_ZOO_TF22_PYTHON, else that of a complete `.venv-tf22`. Other versions may be those of this
    python, or have environments of their own (`export.tf22.environment`).

    Args:
        version: such as "2.13.0".

    Raises:
        MissingToolError: the variable names something that cannot be run.
    """
    chosen = os.environ.get(PYTHON_VARIABLE)
    if chosen and version == TENSORFLOW:
        if not (Path(chosen).is_file() and os.access(chosen, os.X_OK)):
            raise MissingToolError(
                f"{PYTHON_VARIABLE} names {chosen}: expected a python that runs, found none. "
                "Correct it, or unset it and run `make tf22`."
            )
        return Path(chosen)
    if version == _own_version():
        return Path(sys.executable)
    folder = environment.folder_of(version)
    return environment_python(folder) if (folder / environment.STAMP).is_file() else None


def require_python(version: str = TENSORFLOW) -> Path:
    """`find_python`, or a `MissingToolError` that says how to get one."""
    if python := find_python(version):
        return python
    instead = f", or set {PYTHON_VARIABLE} to a Python 3.8 that has tensorflow 2.2.0, numpy and pillow"
    raise MissingToolError(
        f"{environment.folder_of(version)} was expected to hold TensorFlow {version}, and is missing or incomplete. Run "
        f"`{environment.command_for(version)}`{instead if version == TENSORFLOW else ''}."
    )


def _own_version() -> str | None:
    """The version of TensorFlow beside this python; None if there is none."""
    for package in ("tensorflow", "tensorflow-cpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(package)
    return None


def run_calls(calls: Sequence[Call], python: Path | None = None) -> dict:
    """Runs the calls in order; writes each `outputs` file atomically.

    Args:
        calls: what to run; a SavedModel that several calls name is loaded once.
        python: another python with another TensorFlow; by default TensorFlow 2.2's.

    Returns:
        {"tensorflow": version, "seconds": [{name of array or call: seconds}]}, one entry per call, in order. The
        first time of each signature and input shape includes building the graph.

    Raises:
        ExportError: the worker failed; the message quotes the last lines of its stderr.
        MissingToolError: there is no TensorFlow 2.2.
    """
    jobs = [
        {key: str(value) for key, value in ({"signature": CONTEST_SIGNATURE} | dict(call)).items()} for call in calls
    ]
    with temporary_folder() as folder:
        job, report = Path(folder, "job.json"), Path(folder, "report.json")
        job.write_text(json.dumps({"calls": jobs, "report": str(report)}), encoding="utf-8")
        what = ", ".join(dict.fromkeys(call["saved_model"] for call in jobs))
        _run_worker([job], what, python, refusal=ExportError)
        return json.loads(report.read_text(encoding="utf-8"))


def score(submission: Path, test: Path, index: Path, python: Path | None = None) -> dict:
    """Scores a submission.zip as the contest does: one image per call, the 100 nearest by Euclidean distance.

    Args:
        submission: the zip, saved_model.pb at its root.
        test: folder of query images, *.jpg at any depth.
        index: folder of images to search, *.jpg at any depth.
        python: another python with another TensorFlow; by default TensorFlow 2.2's.

    Returns:
        {"tensorflow": version, "descriptor_size": D, "seconds_first_image", "seconds_per_image" (decoding included),
        "query_ids": [q ids], "index_ids": [n ids], "predictions": {query id: [index ids, nearest first]}, "distances":
        {query id: [Euclidean distances]}, "queries": float32 [q, D], "index": float32 [n, D]}.

    Raises:
        SubmissionError: the contest would refuse it: no saved_model.pb at the root, no `serving_default`, not exactly
            one input, no `global_descriptor`.
        ExportError: the worker failed in another way, such as an operation that TensorFlow 2.2 does not have.
        MissingToolError: there is no TensorFlow 2.2.
    """
    try:
        check_zip(Path(submission))
    except ExportError as error:
        raise SubmissionError(str(error)) from error
    with temporary_folder() as folder:
        out, descriptors = Path(folder, "predictions.json"), Path(folder, "descriptors.npz")
        options = ["--score", submission, "--test", test, "--index", index, "--out", out, "--descriptors", descriptors]
        _run_worker(options, str(submission), python, refusal=SubmissionError)
        with np.load(descriptors, allow_pickle=False) as arrays:
            return json.loads(out.read_text(encoding="utf-8")) | dict(arrays)


def _run_worker(arguments: list, what: str, python: Path | None, refusal: type[Exception]) -> None:
    """Runs the worker; shows its stderr as it arrives, and quotes its last lines in the error.

    -I keeps PYTHONPATH, user site-packages and the folder of the script out of its imports; other variables, such as
    OMP_NUM_THREADS and OPENBLAS_NUM_THREADS, are passed on.
    """
    command = [str(python or require_python()), "-I", str(WORKER), *map(str, arguments)]
    last: deque[str] = deque(maxlen=_LAST_LINES)
    try:
        worker = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=os.environ | {PARENT: str(os.getpid())},
        )
    except OSError as error:
        raise MissingToolError(
            f"{command[0]} cannot be run: {error.strerror}. Make its environment again: `{environment.command_for()}`, or "
            f"`{environment.command_for('VERSION')}` if it is another TensorFlow's."
        ) from error
    with worker, ended_with(worker):
        for line in worker.stderr or ():
            if not _CHATTER.match(line):
                print(line, end="", file=sys.stderr, flush=True)
            last.append(line)
    said = "".join(last).strip() or "(it said nothing)"
    if worker.returncode == _REFUSED:
        raise refusal(f"{what}: refused. {said}")
    if worker.returncode != 0:
        raise ExportError(f"{what}: {command[0]} failed ({ending(worker.returncode)}); its last output:\n{said}")
