"""Canaries: files that would start a program or fetch something, if a reader let them. Each is first shown to be alive."""

import os
import pickle
import stat
from pathlib import Path

import PIL.Image
import pytest

from tests.reliability.sandbox import Sandbox

_EPS = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
    b"9 9 8 [9 0 0 -9 0 9] {<ff>} image\nshowpage\n%%EOF\n"
)


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that must not appear. Programs that libraries are known to start are replaced by one that makes it."""
    alarm, programs = tmp_path / "executed", tmp_path / "programs"
    programs.mkdir()
    for name in ("gs", "gswin64c", "wmf2svg", "djpeg", "xdg-open", "display", "curl", "wget", "git"):
        program = programs / name
        program.write_text(f'#!/bin/sh\ntouch "{alarm}"\n', encoding="utf-8")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # it remembers that there was no Ghostscript
    return alarm


class Touch:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f'touch "{self.path}"',)


def test_the_canaries_are_alive(canary, tmp_path):
    (tmp_path / "a.jpg").write_bytes(_EPS)
    with pytest.raises(OSError), PIL.Image.open(tmp_path / "a.jpg") as image:
        image.load()
    assert canary.exists(), "Pillow no longer starts Ghostscript"
    canary.unlink()
    pickle.loads(pickle.dumps(Touch(canary)))
    assert canary.exists()


@pytest.mark.parametrize("cut", [None, 200, 60])
def test_an_image_that_is_postscript(canary, cut):
    with Sandbox("image") as sandbox:
        outcome = sandbox.read(_EPS[:cut])
    assert outcome.kind == "refused" and "not an image" in outcome.text
    assert not canary.exists()


def test_every_opening_of_an_image_names_its_formats():
    """The whole source: an image that is opened without a list of formats may start a program."""
    root = Path(__file__).resolve().parents[2]
    found = []
    for room in (
        "zoo",
        "training",
        "torch_models",
        "paddle_models",
        "retrieval",
        "export",
        "submission",
        "pipeline",
        "landmark_zoo",
    ):
        for path in (root / room).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            found += [path.name for line in text.splitlines() if "Image.open(" in line and "formats=" not in line]
    assert not found
