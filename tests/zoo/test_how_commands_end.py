"""How a command ends: one line of error and its status, whatever stopped it."""

import subprocess
import sys

import pytest

from zoo.processes import module_environment

ENDINGS = {
    "raise ZooError('it is broken.')": (2, "error: it is broken."),
    "open('/nowhere/at all')": (2, "error: /nowhere/at all: No such file or directory. Correct the path"),
    "raise MemoryError": (2, "error: there is not enough memory (an allocation failed)."),
    "import numpy; numpy.ones(1 << 46)": (2, "error: there is not enough memory (Unable to allocate"),
    "raise KeyboardInterrupt": (130, "interrupted; nothing that existed is damaged."),
    "pass": (0, ""),
}


@pytest.mark.parametrize("body", ENDINGS)
def test_what_stops_a_command_is_one_line(body):
    code = f"from zoo.command import run\nfrom zoo.errors import ZooError\ndef main():\n    {body}\nrun(main)"
    environment = module_environment()
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, env=environment, capture_output=True, encoding="utf-8", check=False)
    status, message = ENDINGS[body]
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == bool(message)
