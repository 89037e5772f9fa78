"""The TensorFlows on PyPI, and the Python and the packages that each one needs."""

import argparse
import os

from zoo.environments import find_python
from zoo.errors import ExportError

TENSORFLOW = "2.2.0"
"""The version that the contest's scorer runs."""
_OLD = ("protobuf<3.21", "numpy<1.24")
"""Upper bounds that TensorFlow up to 2.11 needs but does not declare."""
WHEELS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    **dict.fromkeys(("2.0.0", "2.1.0"), (("3.7",), _OLD)),
    **dict.fromkeys((TENSORFLOW, "2.3.0", "2.4.0"), (("3.8",), _OLD)),
    "2.5.0": (("3.8", "3.9"), _OLD),
    # TensorFlow 2.6 also accepts later versions of these two, and fails with them.
    "2.6.0": (("3.8", "3.9"), (*_OLD, "keras<2.7", "tensorflow-estimator<2.7")),
    "2.7.0": (("3.8", "3.9"), _OLD),
    **dict.fromkeys(("2.8.0", "2.9.0", "2.10.0", "2.11.0"), (("3.10", "3.9", "3.8"), _OLD)),
    **dict.fromkeys(("2.12.0", "2.13.0"), (("3.11", "3.10", "3.9", "3.8"), ("numpy<2",))),
    **dict.fromkeys(("2.14.0", "2.15.0"), (("3.11", "3.10", "3.9"), ("numpy<2",))),
    **dict.fromkeys(("2.16.1", "2.17.0"), (("3.11", "3.12", "3.10", "3.9"), ("numpy<2",))),
    **dict.fromkeys(("2.18.0", "2.19.0", "2.19.1"), (("3.11", "3.12", "3.10", "3.9"), ())),
    **dict.fromkeys(("2.20.0", "2.21.0"), (("3.11", "3.12", "3.13", "3.10"), ())),
}
"""{TensorFlow: (Pythons that it has wheels for, those that are tried first in front; additional requirements)}: the first release of
each minor version on PyPI, and the release that writes our SavedModels. Each has a registry (`export/checker/registry.py`)."""
_FIRST_WITH_ONEDNN = (2, 9)
"""From this version on oneDNN is enabled by default, on processors with instructions for neural networks."""


def full_version(version: str) -> str:
    """A version with its last number: "2.4" means the newest 2.4 of `WHEELS`.

    Raises:
        ExportError: it is none of them.
    """
    fits = [known for known in WHEELS if version in (known, known.rpartition(".")[0])]
    if fits:
        return fits[-1]
    raise ExportError(
        f"TensorFlow {version}: expected one of {', '.join(WHEELS)}, or the first two numbers of one. For another, add it to `WHEELS` in "
        "export/tensorflows.py and run `python -m export.checker.make_registries --versions VERSION`."
    )


def add_tf_option(parser: argparse.ArgumentParser) -> None:
    """Adds --tf, whose value `full_version` completes."""
    parser.add_argument(
        "--tf", default=TENSORFLOW, metavar="VERSION", help="which TensorFlow, such as 2.13; default: %(default)s"
    )


def python_for(version: str) -> str:
    """The Python to install a version for: the first of its Pythons that is on this machine, or that uv may fetch."""
    pythons, _ = WHEELS[version]
    return next((python for python in pythons if find_python(python)), pythons[0])


def requirements(version: str) -> list[str]:
    """What `pip install` is told to install."""
    package = "tensorflow" if version.startswith("2.0.") else "tensorflow-cpu"  # tensorflow-cpu begins with 2.1
    return [f"{package}=={version}", *WHEELS[version][1]]


def has_onednn(version: str) -> bool:
    """Whether a version enables oneDNN by default, as far as the processor suits."""
    return tuple(int(part) for part in version.split(".")[:2]) >= _FIRST_WITH_ONEDNN


def environment_variables(*, onednn: bool) -> dict[str, str]:
    """Environment variables for a TensorFlow that is the same on every machine: no GPUs, and oneDNN or not.

    oneDNN runs forms of operators that TensorFlow's own kernels refuse.
    """
    return os.environ | {"TF_ENABLE_ONEDNN_OPTS": str(int(onednn)), "CUDA_VISIBLE_DEVICES": ""}
