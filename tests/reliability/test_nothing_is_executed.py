"""Canaries: files that would start a program or fetch something, if a reader let them. Each is first shown to be alive."""

import io
import os
import pickle
import socket
import stat
import struct
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from export.check import check
from retrieval.data.check import check_data
from retrieval.data.from_folder import from_folder
from retrieval.data.gldv2 import Gldv2
from retrieval.data.images import UnreadableImageError, clipping, read_image
from retrieval.embed import describe_pixels
from retrieval.embeddings import Embeddings
from retrieval.image_batches import Resized, batches
from retrieval.viewer.thumbnails import shrunk
from retrieval.whitening import read_whitening
from tests.reliability.sandbox import Sandbox
from training.images import read_crop
from training.recipes import read_recipe
from zoo.checkpoint import load_checkpoint
from zoo.contest import IMAGE_FORMATS
from zoo.errors import DataError, RecipeError, ZooError
from zoo.import_weights import import_weights
from zoo.variants import get_spec

_EPS = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
    b"9 9 8 [9 0 0 -9 0 9] {<ff>} image\nshowpage\n%%EOF\n"
)

_WMF = b"\xd7\xcd\xc6\x9a\x00\x00" + struct.pack("<4hHIH", 0, 0, 90, 90, 72, 0, 0) + b"\x01\x00\x09\x00" + bytes(40)


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


def _executing_pickles(canary: Path) -> dict[str, bytes]:
    """A pickle as such, and in the zip that `torch.save` writes."""
    raw = {f"protocol {number}": pickle.dumps(Touch(canary), protocol=number) for number in range(6)}
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("archive/data.pkl", raw["protocol 2"])
        archive.writestr("archive/version", "3\n")
    return raw | {"zip": zipped.getvalue()}


@pytest.mark.parametrize("cut", [None, 200, 60])
def test_an_image_that_is_postscript(canary, cut):
    with Sandbox("image") as sandbox:
        outcome = sandbox.read(_EPS[:cut])
    assert outcome.kind == "refused" and "not an image" in outcome.text
    assert not canary.exists()


@pytest.mark.parametrize("content", [_EPS, _WMF], ids=["EPS", "WMF"])
def test_every_door_of_the_images(canary, tmp_path, content):
    """The reader, the report, the data check, training, a folder of photographs, and the embedding loop."""
    image_id = "0" * 16
    dataset = Gldv2(tmp_path)
    path = dataset.image_path("index", image_id)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    for door in (
        read_image,
        lambda path: clipping(path.read_bytes(), str(path)),
        lambda path: shrunk(path.read_bytes(), str(path), 96),
        lambda path: read_crop(path.read_bytes(), str(path), 8, lambda width, height: (0, 0, width, height)),
    ):
        with pytest.raises(UnreadableImageError, match="not an image"):
            door(path)
    (tmp_path / "index.csv").write_text(f"id\n{image_id}\n", encoding="utf-8")
    assert check_data(tmp_path, workers=1)[1] == {"index": 1}
    (tmp_path / "photographs" / "a").mkdir(parents=True)
    (tmp_path / "photographs" / "a" / "b.jpg").write_bytes(content)
    with pytest.raises(DataError, match="at least two classes"):
        from_folder(tmp_path / "photographs", tmp_path / "out")
    with pytest.raises(UnreadableImageError):
        list(batches([str(path)], [Resized(8, "bilinear")], 1, 1))
    assert not canary.exists()


@pytest.mark.parametrize("content", [b"any content at all", _EPS, b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"])
def test_no_other_plug_in_of_pillow_sees_a_file(tmp_path, monkeypatch, content):
    """Even one that takes every file: the list of formats is not a list of first bytes."""
    PIL.Image.init()
    asked = []
    for name in set(PIL.Image.OPEN) - set(IMAGE_FORMATS):
        monkeypatch.setitem(PIL.Image.OPEN, name, (lambda *_, name=name: asked.append(name), None))
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(UnreadableImageError):
        read_image(tmp_path / "a.jpg")
    assert not asked


@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.pdparams", "a.safetensors", "a.bin"])
@pytest.mark.parametrize("kind", ["protocol 0", "protocol 2", "protocol 5", "zip"])
def test_a_pickle_that_runs_a_program(canary, tmp_path, name, kind):
    path = tmp_path / name
    path.write_bytes(_executing_pickles(canary)[kind])
    readers = (lambda: import_weights(path, get_spec("resnet18")), lambda: load_checkpoint(path))
    for read in (*readers, lambda: Embeddings.load(path), lambda: read_whitening(path)):
        with pytest.raises(ZooError):
            read()
    assert not canary.exists()


def test_pixels_that_are_pickled(canary, tmp_path):
    pixels = tmp_path / "pixels.npz"
    np.savez(pixels, images=np.array([Touch(canary)], dtype=object))  # pyright: ignore[reportArgumentType]
    with pytest.raises(DataError, match=r"pixels\.npz"):
        describe_pixels(_Means(), pixels, tmp_path / "out.npz")
    assert not canary.exists()


class _Means:
    """A describer, which is not reached."""

    inputs, source = (Resized(8, "bilinear"),), {"model": "means"}

    def __call__(self, batch):
        return batch[self.inputs[0]].mean(axis=(1, 2))


@pytest.mark.parametrize(
    "tag", ["python/object/apply:os.system", "python/object/new:os.system", "python/name:os.system"]
)
def test_a_recipe_that_runs_a_program(canary, tmp_path, tag):
    path = tmp_path / "recipe.yaml"
    argument = "" if "name" in tag else f" ['touch {canary}']"
    path.write_text(f"models: !!{tag}{argument}\n", encoding="utf-8")
    with pytest.raises(RecipeError):
        read_recipe(path)
    assert not canary.exists()


@pytest.mark.parametrize("name", ["../executed", "/{canary}", "a/../../executed", "..\\executed"])
def test_a_zip_whose_names_leave_its_folder(canary, tmp_path, name):
    path = tmp_path / "inner" / "submission.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name.format(canary=canary), "")
        archive.writestr("saved_model.pb", b"\x08\x01")
    with suppress(ZooError):
        check(path)
    assert not [found for found in tmp_path.rglob("*executed*") if found.is_file()]


def test_tables_whose_addresses_are_not_fetched(canary, tmp_path, monkeypatch):
    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, lambda *_: canary.touch())
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: canary.touch())
    (tmp_path / "train.csv").write_text(
        f"id,url,landmark_id\n{'0' * 16},http://127.0.0.1:9/a.jpg,1\n", encoding="utf-8"
    )
    Gldv2(tmp_path).train()
    check_data(tmp_path, workers=1)
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
