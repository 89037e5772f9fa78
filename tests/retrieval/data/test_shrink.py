"""A smaller copy has the same images, ids and tables, continues where it was killed, and leaves out what is damaged."""

import csv
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval.data.gldv2 import Gldv2
from retrieval.data.images import read_image
from retrieval.data.shrink import shrink
from tests.retrieval.data.tars import as_tars
from zoo.errors import DataError, OutputError, SpecError
from zoo.processes import ROOT

SIZES = [(90, 60), (60, 90), (64, 64), (40, 200), (41, 39), (40, 40), (30, 20), (300, 41)]
SIDE = 40


def image_id(number: int) -> str:
    return f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}"


def photograph(number: int, size: tuple[int, int]) -> Image.Image:
    rng = np.random.default_rng(number)
    return Image.fromarray(rng.integers(0, 256, (5, 6, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def data(tmp_path: Path) -> Gldv2:
    """Eight training images, eight of an index and two queries."""
    root = tmp_path / "data"
    write_set(root, 8)
    return Gldv2(root)


def write_set(root: Path, count: int) -> None:
    root.mkdir()
    dataset = Gldv2(root)
    ids = {
        "train": [image_id(k) for k in range(count)],
        "index": [image_id(k) for k in range(count, 2 * count)],
        "test": [image_id(k) for k in range(2 * count, 2 * count + 2)],
    }
    for split, names in ids.items():
        for number, name in enumerate(names):
            path = dataset.image_path(split, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            photograph(int(name[:6], 16), SIZES[number % 8]).save(path, quality=95, subsampling=0)
    train = "".join(f"{name},u,{number % 3}\n" for number, name in enumerate(ids["train"]))
    (root / "train.csv").write_text("id,url,landmark_id\n" + train, encoding="utf-8")
    for split in ("index", "test"):
        (root / f"{split}.csv").write_text("\n".join(["id", *ids[split]]) + "\n", encoding="utf-8")
    (root / "retrieval_solution_v2.1.csv").write_text("id,images,Usage\n", encoding="utf-8")
    (root / "train_label_to_category.csv").write_text("landmark_id,category\n0,Brücke\n", encoding="utf-8")


def content(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def unreadable(root: Path) -> dict[tuple[str, str], str]:
    with open(root / "unreadable.csv", encoding="utf-8", newline="") as file:
        return {(row["split"], row["id"]): row["reason"] for row in csv.DictReader(file)}


def test_the_copy_has_the_same_images_with_a_shorter_side_of_at_most_that(data, tmp_path):
    counts = shrink(data.root, tmp_path / "small", side=SIDE, workers=2)
    assert counts == {"made smaller": 10, "copied": 8, "damaged": 0, "done before": 0}
    copy = Gldv2(tmp_path / "small")
    for split in ("train", "index", "test"):
        assert copy.named_ids(split) == data.named_ids(split)
        for number, name in enumerate(data.named_ids(split)):
            whole, small = read_image(data.image_path(split, name)), read_image(copy.image_path(split, name))
            width, height = SIZES[number]
            if min(width, height) <= SIDE:
                assert copy.image_path(split, name).read_bytes() == data.image_path(split, name).read_bytes()
                continue
            factor = SIDE / min(width, height)
            assert small.shape == (max(SIDE, round(height * factor)), max(SIDE, round(width * factor)), 3)
            expected = Image.fromarray(whole).resize(small.shape[1::-1], Image.Resampling.LANCZOS)
            assert np.abs(small.astype(float) - np.asarray(expected)).mean() < 2
    tables = {name for name in content(copy.root) if "/" not in name}
    assert tables == {name for name in content(data.root) if "/" not in name}
    assert all((copy.root / name).read_bytes() == (data.root / name).read_bytes() for name in tables)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_tars_give_the_same_copy(data, tmp_path):
    shrink(data.root, tmp_path / "of the files", side=SIDE)
    shrink(as_tars(data.root, tmp_path / "tars"), tmp_path / "of the tars", side=SIDE)
    assert content(tmp_path / "of the files") == content(tmp_path / "of the tars")


def test_damaged_images_are_left_out_and_listed(data, tmp_path, capsys):
    cut, zeros, gone, listed = (data.named_ids("train")[number] for number in range(4))
    path = data.image_path("train", cut)
    path.write_bytes(path.read_bytes()[:-100])
    path = data.image_path("train", zeros)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 90, 3), np.uint8)).save(path, quality=95)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2].ljust(len(whole), b"\0"))
    assert read_image(path).shape == (80, 90, 3), "Pillow notices nothing"
    data.image_path("train", gone).unlink()
    (data.root / "unreadable.csv").write_text(f"split,id,reason\ntrain,{listed},blurred\n", encoding="utf-8")
    counts = shrink(data.root, tmp_path / "small", side=SIDE)
    assert counts["damaged"] == 4
    found = unreadable(tmp_path / "small")
    assert found.keys() == {("train", name) for name in (cut, zeros, gone, listed)}
    assert "truncated" in found["train", cut] and "zeros" in found["train", zeros]
    assert found["train", gone] == "no such file"
    copy = Gldv2(tmp_path / "small")
    assert len(copy.train().ids) == 4 and not any(copy.image_path("train", name).exists() for name in (cut, listed))
    assert f"left out: {data.image_path('train', gone)}: no such file" in capsys.readouterr().err


def test_only_images_that_training_uses_are_copied(data, tmp_path):
    first, second, *_ = data.named_ids("train")
    (data.root / "train_clean.csv").write_text(f"landmark_id,images\n5,{first} {second}\n", encoding="utf-8")
    (data.root / "index.csv").unlink()
    assert shrink(data.root, tmp_path / "small", side=SIDE)["made smaller"] == 4
    assert not (tmp_path / "small" / "index").exists()


def test_what_is_finished_is_not_done_again(data, tmp_path, monkeypatch):
    whole = tmp_path / "whole"
    shrink(data.root, whole, side=SIDE)
    out, resized = tmp_path / "small", []
    resize = Image.Image.resize

    def stopping(image, *given, **named):
        resized.append(1)
        if len(resized) == 5:
            raise RuntimeError("stopped")
        return resize(image, *given, **named)

    monkeypatch.setattr(Image.Image, "resize", stopping)
    with pytest.raises(RuntimeError, match="stopped"):
        shrink(data.root, out, side=SIDE)
    assert not out.exists() and (tmp_path / ".small.parts").is_dir()
    counts = shrink(data.root, out, side=SIDE)
    assert counts["done before"] >= 4 and sum(counts.values()) == 18
    assert content(out) == content(whole)
    assert not (tmp_path / ".small.parts").exists()


@pytest.mark.parametrize("change", ["side", "image", "table"])
def test_unfinished_work_of_something_else_is_not_used(data, tmp_path, change, monkeypatch, capsys):
    out = tmp_path / "small"
    with monkeypatch.context() as patched:
        patched.setattr("retrieval.data.shrink._copy_tables", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            shrink(data.root, out, side=SIDE)
    path = data.image_path("train", data.named_ids("train")[0])
    if change == "image":
        os.utime(path, ns=(1, 1))
    elif change == "table":
        (data.root / "index.csv").write_text("id\n", encoding="utf-8")
    counts = shrink(data.root, out, side=SIDE + (change == "side"))
    assert counts["done before"] == 0
    assert "beginning anew" in capsys.readouterr().err


@pytest.mark.parametrize("moment", [0.05, 0.4, 0.7])
def test_a_killed_command_continues(tmp_path, moment):
    write_set(tmp_path / "data", 300)
    words = [sys.executable, "-m", "retrieval.data.shrink", "--data", "data", "--side", str(SIDE), "--out"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def start(out: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*words, out], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    whole = start("whole")
    assert whole.communicate()[0] == "whole\n"
    killed = start("small")
    target = moment * 602

    def made() -> int:
        # Not by rglob: its folders may be moved while it looks into them.
        return sum(name.endswith(".jpg") for _, _, names in os.walk(tmp_path / ".small.parts") for name in names)

    while killed.poll() is None and made() < target:
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    again = start("small")
    said = again.communicate()[1]
    assert again.returncode == 0, said
    assert content(tmp_path / "small") == content(tmp_path / "whole")
    assert "images/s" in said
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_file_that_a_crash_emptied_is_made_again(data, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("retrieval.data.shrink._copy_tables", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            shrink(data.root, tmp_path / "small", side=SIDE)
    name = data.named_ids("index")[0]
    Gldv2(tmp_path / ".small.parts").image_path("index", name).write_bytes(b"")
    shrink(data.root, tmp_path / "small", side=SIDE)
    assert read_image(Gldv2(tmp_path / "small").image_path("index", name)).size


def test_the_doors(data, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(OutputError, match="already contains 'mine'"):
        shrink(data.root, tmp_path / "full", side=SIDE)
    for out in (data.root / "small", data.root):
        with pytest.raises(OutputError, match="the input"):
            shrink(data.root, out, side=SIDE, overwrite=True)
    with pytest.raises(OutputError, match="holds the input"):
        shrink(data.root, tmp_path, side=SIDE, overwrite=True)
    with pytest.raises(SpecError, match="side"):
        shrink(data.root, tmp_path / "small", side=0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds none of train.csv, index.csv, test.csv"):
        shrink(tmp_path / "empty", tmp_path / "small", side=SIDE)
    assert not (tmp_path / "small").exists() and not list(tmp_path.glob(".*"))
    shrink(data.root, tmp_path / "full", side=SIDE, overwrite=True)
    assert not (tmp_path / "full" / "mine").exists() and Gldv2(tmp_path / "full").train().ids


def test_a_full_disk_is_one_error_and_what_is_finished_is_kept(data, tmp_path, monkeypatch):
    written = []
    write_bytes = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        written.append(path)
        if len(written) == 6:
            raise OSError(28, os.strerror(28), str(path))
        return write_bytes(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(OutputError, match=r"small could not be written: No space left on device"):
            shrink(data.root, tmp_path / "small", side=SIDE)
    assert not (tmp_path / "small").exists()
    assert shrink(data.root, tmp_path / "small", side=SIDE)["done before"] >= 1


def test_what_is_no_jpeg_becomes_one(data, tmp_path):
    for number, (mode, form) in enumerate([("L", "PNG"), ("RGBA", "WEBP"), ("CMYK", "JPEG"), ("P", "GIF")]):
        file = io.BytesIO()
        photograph(number, (90, 70)).convert(mode).save(file, form)
        data.image_path("train", data.named_ids("train")[number]).write_bytes(file.getvalue())
    shrink(data.root, tmp_path / "small", side=SIDE)
    for name in data.named_ids("train")[:4]:
        with Image.open(Gldv2(tmp_path / "small").image_path("train", name)) as image:
            assert (image.format, image.mode, min(image.size)) == ("JPEG", "RGB", SIDE)
