"""What to run after the pipeline."""

import shlex
import shutil
import sys
from pathlib import Path

_PROGRAM = "landmark-zoo"


def search_page_command(saved_model: Path, index: Path, data: Path) -> str:
    """The command line that opens the search page of a run, to be pasted into the shell that started the run."""
    installed = shutil.which(_PROGRAM) is not None
    program = (
        [_PROGRAM] if installed else [sys.executable, "-m", "landmark_zoo"]
    )  # `make` does not activate its environment
    return shlex.join([*program, "serve", "--model", str(saved_model), "--store", str(index), "--data", str(data)])
