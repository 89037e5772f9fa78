"""The command that the pipeline prints at its end is one that runs."""

import shlex
import sys
from pathlib import Path

from export.serve import parse_arguments
from pipeline.next_command import search_page_command

PATHS = (Path("runs/Schöne Fotos α/saved_model"), Path("runs/$HOME `x`/index.safetensors"), Path("it's/data"))


def test_it_is_a_command_line_of_the_search_page(monkeypatch):
    for found, program in (("/bin/landmark-zoo", ["landmark-zoo"]), (None, [sys.executable, "-m", "landmark_zoo"])):
        monkeypatch.setattr("shutil.which", lambda _, found=found: found)
        words = shlex.split(search_page_command(*PATHS))
        assert words[: len(program) + 1] == [*program, "serve"]
        monkeypatch.setattr(sys, "argv", words[len(program) :])
        arguments = parse_arguments()
        assert (arguments.model, arguments.store, arguments.data) == PATHS
