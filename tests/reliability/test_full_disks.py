"""A real disk that is full or fills up, and `ulimit -f`: one true error, nothing half-written, and what is finished is kept.

The disk is a tmpfs in namespaces of its own. `LATE` leaves the check at the door out, so that the disk fills in the middle.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.reliability.kills import COMMANDS, digest, prepare
from tests.reliability.namespaces import namespaces
from zoo.processes import ROOT

MOUNTED = 'mount -t tmpfs -o size="$1" tmpfs out; shift; "$@"; status=$?; cp -R out kept; exit $status'
LIMITED = 'ulimit -f "$1"; shift; exec "$@"'
LATE = """import runpy, sys, zoo.disk
zoo.disk.require_room = lambda *_, **__: None
runpy.run_module(sys.argv[1], run_name="__main__", alter_sys=(sys.argv.pop(0), True)[1])"""
SIZES = {
    "import": "2m",
    "search": "40k",
    "embed": "16k",
    "whitening": "12k",
    "pack": "12k",
    "write weights": "2m",
    "train torch": "12m",
    "export": "8m",
}
"""Less than each command's output, and more than its beginning."""
NAMES = [pytest.param(name, marks=[pytest.mark.slow] * (name in ("train torch", "export"))) for name in SIZES]


needs_mounts = pytest.mark.skipif(not namespaces(), reason="no namespaces here, so no small disk can be mounted")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    prepare(folder)
    return folder


@pytest.fixture
def desk(inputs: Path, tmp_path: Path) -> Path:
    for path in inputs.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "out").mkdir()
    return tmp_path


def run_in(desk: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(words, cwd=desk, env=environment, capture_output=True, text=True, check=False)


def require_one_error(run: subprocess.CompletedProcess[str], text: str) -> None:
    assert run.returncode == 2, run.stderr[-2000:]
    assert "Traceback" not in run.stderr
    assert text in run.stderr.splitlines()[-1]


def partials(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if path.suffix == ".partial"]


@needs_mounts
@pytest.mark.parametrize("name", NAMES)
def test_a_full_disk_is_found_before_the_work(name, desk):
    words = [sys.executable, "-m", *COMMANDS[name].words]
    run = run_in(desk, "unshare", "-rm", "sh", "-c", MOUNTED, "sh", "8k", *words)
    require_one_error(run, f"{words[words.index('--out') + 1]} needs at least")
    assert not list((desk / "kept").iterdir())


@needs_mounts
@pytest.mark.parametrize("name", NAMES)
def test_a_disk_that_fills_up_in_the_middle(name, desk):
    words = [sys.executable, "-c", LATE, *COMMANDS[name].words]
    run = run_in(desk, "unshare", "-rm", "sh", "-c", MOUNTED, "sh", SIZES[name], *words)
    require_one_error(run, "could not be written: No space left on device")
    assert not partials(desk / "kept")


@pytest.mark.parametrize("name", NAMES)
def test_a_file_larger_than_the_limit_is_found_before_the_work(name, desk):
    words = [sys.executable, "-m", *COMMANDS[name].words]
    run = run_in(desk, "sh", "-c", LIMITED, "sh", "8", *words)
    require_one_error(run, "`ulimit -f` allows")
    assert not list((desk / "out").iterdir())


@needs_mounts
@pytest.mark.parametrize(
    ("name", "size"),
    [
        pytest.param("train torch", "12m", marks=pytest.mark.slow),
        pytest.param("train paddle", "12m", marks=pytest.mark.slow),
    ],
)
def test_work_that_a_full_disk_broke_is_resumed(name, size, desk):
    """What was finished is kept, and the result is that of an unbroken run, to the bit."""
    command = COMMANDS[name]
    words = [sys.executable, "-m", *command.words]
    assert run_in(desk, *words).returncode == 0
    unbroken = digest(desk / command.out)
    shutil.rmtree(desk / "out")
    (desk / "out").mkdir()
    late = [sys.executable, "-c", LATE, *command.words]
    require_one_error(run_in(desk, "unshare", "-rm", "sh", "-c", MOUNTED, "sh", size, *late), "could not be written")
    (desk / "out").rmdir()
    (desk / "kept").rename(desk / "out")
    assert list((desk / "out").iterdir())
    again = run_in(desk, *words)
    assert again.returncode == 0, again.stderr[-2000:]
    assert digest(desk / command.out) == unbroken
