"""Makes `.rivals/<name>`: the environments of the converters and hand-written networks in the serving benchmark.

Example:
    python -m benchmarks.rivals

Each is pinned by benchmarks/rivals/<name>.txt. A stamp is written last; if it is missing or has other pins, the
environment is made again. Does nothing if all are complete. Takes 2.2 GB on disk, nearly all of it for nobuco.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from zoo.command import log, run
from zoo.errors import MissingToolError
from zoo.files import write_json

ROOT = Path(__file__).resolve().parents[1]
RIVALS, PINS = ROOT / ".rivals", Path(__file__).resolve().with_name("rivals")
NAMES = ("nobuco", "keras")
"""nobuco needs an older TensorFlow and Keras than ours, and so its own environment. keras-cv-attention-models runs in ours and
only needs a folder on PYTHONPATH: 17 MB instead of 2 GB."""
STAMP = "landmark-zoo-rival.json"
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
"""As in the Makefile: CPU builds of torch are installed from here if it is reachable, otherwise from pip's default index."""


@dataclass(frozen=True)
class Environment:
    """A Python and its additional environment variables."""

    python: Path
    variables: dict[str, str] = field(default_factory=dict)


def require(name: str) -> Environment:
    """A contender's environment.

    Raises:
        MissingToolError: it is missing, incomplete or made from other pins.
    """
    if not is_complete(name):
        raise MissingToolError(
            f"{RIVALS / name} is missing or does not match {PINS / name}.txt. Run `python -m benchmarks.rivals`."
        )
    return _environment(name)


def is_complete(name: str) -> bool:
    """True if the stamp exists and was written for the current pins."""
    stamp = RIVALS / name / STAMP
    return stamp.is_file() and _pins_hash(name) in stamp.read_text(encoding="utf-8")


def make(name: str) -> Path:
    """Makes a contender's environment unless it is complete; returns its folder.

    Raises:
        MissingToolError: there is no Python 3.11, or pip failed.
    """
    folder, pins = RIVALS / name, ("-r", PINS / f"{name}.txt")
    if is_complete(name):
        log(f"{folder} is complete")
        return folder
    log(f"making {folder}")
    shutil.rmtree(folder, ignore_errors=True)
    if name == "keras":
        _require_run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, *pins)
    else:
        _require_run(_python311(), "-I", "-m", "venv", folder)
        pip = (_environment(name).python, "-I", "-m", "pip")
        index = ("--retries", "0", "--index-url", os.environ.get("TORCH_INDEX", TORCH_INDEX))
        if not _runs(*pip, "install", "--quiet", "--no-deps", *index, *_torch_pins(name)):
            _require_run(*pip, "install", "--no-deps", *_torch_pins(name))
        _require_run(*pip, "install", "--quiet", "--prefer-binary", *pins)
        _require_run(*pip, "check")
    write_json(folder / STAMP, {"rival": name, "pins_sha256": _pins_hash(name)})
    return folder


def _environment(name: str) -> Environment:
    if name == "keras":
        return Environment(Path(sys.executable), {"PYTHONPATH": str(RIVALS / name)})
    return Environment(RIVALS / name / "bin" / "python")


def _torch_pins(name: str) -> list[str]:
    lines = (PINS / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.startswith(("torch==", "torchvision=="))]


def _pins_hash(name: str) -> str:
    return hashlib.sha256((PINS / f"{name}.txt").read_bytes()).hexdigest()


def _python311() -> Path:
    """TensorFlow 2.15 supports Python up to 3.11."""
    if sys.version_info[:2] == (3, 11):
        return Path(sys.executable)
    if found := shutil.which("python3.11"):
        return Path(found)
    raise MissingToolError(
        "Python 3.11 was expected (nobuco's TensorFlow 2.15 has no wheels for a newer one), found none."
    )


def _runs(*command: str | Path) -> bool:
    return subprocess.run(command, stdout=sys.stderr).returncode == 0


def _require_run(*command: str | Path) -> None:
    if not _runs(*command):
        raise MissingToolError(
            f"{' '.join(map(str, command))} failed; its message is above. Check the network and the free disk space, then "
            "run `python -m benchmarks.rivals` again."
        )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", nargs="+", choices=NAMES, default=NAMES)
    for name in parser.parse_args().names:
        make(name)
    print(RIVALS)


if __name__ == "__main__":
    run(main)
