"""The small SavedModels of `tests/tiny_saved_models.py`, the valid one with a manifest as of a measured export."""

import subprocess
import sys
from pathlib import Path

from zoo.manifest import Check, Manifest, ParityRow, Source, write_manifest
from zoo.processes import ROOT
from zoo.variants import get_spec

TINY_SAVED_MODELS = ROOT / "tests" / "tiny_saved_models.py"


def write_tiny_saved_models(folder: Path) -> None:
    """Writes them by the current TensorFlow, in its own process."""
    subprocess.run([sys.executable, TINY_SAVED_MODELS, folder], check=True, capture_output=True)
    write_manifest(folder / "good", measured_manifest())


def measured_manifest() -> Manifest:
    """The manifest of a model that was exported, measured and run in TensorFlow 2.2."""
    rows = [ParityRow("torch → tf 2.2", "resnet18 (torch)", 3e-7, 1.0, 1e-5)]
    checked = Check("2.2.0", "run", accepted=True)
    source = Source(get_spec("resnet18"), "0" * 64, "torch", {"torch": "2"}, {}, parity=rows, check=checked)
    return Manifest([source], parity=rows, check=checked, versions={"landmark-zoo": "0"})
