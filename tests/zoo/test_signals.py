"""Signals end a command like Ctrl-C: its temporary files are removed and the exit status names the signal."""

import signal
import subprocess
import sys

import pytest

from tests.default_signals import default_signals

CODE = """
import sys, time
from zoo.command import run
from zoo.files import new_folder
def main():
    with new_folder(sys.argv[1]):
        print("ready", flush=True)
        time.sleep(60)
run(main)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_nothing(tmp_path, number):
    command = [sys.executable, "-c", CODE, tmp_path / "out"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
        preexec_fn=default_signals,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert "interrupted" in process.stderr.read()
    assert process.returncode == 128 + number
    assert list(tmp_path.iterdir()) == []
