"""Images in tars are those of the tree, byte for byte; a tar that is not whole, or no tar, is named with what is wrong."""

import bz2
import gzip
import io
import lzma
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval.data.check import check_data
from retrieval.data.fingerprint import fingerprint
from retrieval.data.gldv2 import Gldv2
from retrieval.data.images import UnreadableImageError
from retrieval.data.sources import open_source
from zoo.errors import DataError

COUNT = 40


def image_id(number: int) -> str:
    return f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}"


@pytest.fixture
def tree(tmp_path: Path) -> Gldv2:
    """Forty index images as files."""
    (tmp_path / "tree").mkdir()
    dataset = Gldv2(tmp_path / "tree")
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        path = dataset.image_path("index", image_id(number))
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (9 + number, 7, 3), np.uint8)).save(path)
    ids = "\n".join(image_id(number) for number in range(COUNT))
    (dataset.root / "index.csv").write_text(f"id\n{ids}\n", encoding="utf-8")
    return dataset


def content(tree: Gldv2, number: int) -> bytes:
    return tree.image_path("index", image_id(number)).read_bytes()


def packed(tree: Gldv2, root: Path, *, tars: int = 3, form: int = tarfile.USTAR_FORMAT, folder: str = "") -> Gldv2:
    """The same data set with its images in tars."""
    (root / "index").mkdir(parents=True)
    shutil.copy(tree.root / "index.csv", root)
    for shard in range(tars):
        with tarfile.open(root / "index" / f"images_{shard:03}.tar", "w", format=form) as tar:
            for number in range(shard, COUNT, tars):
                name = image_id(number)
                member = tarfile.TarInfo(f"{folder}{'/'.join(name[:3])}/{name}.jpg")
                member.size, member.mtime = len(content(tree, number)), 1.5
                tar.addfile(member, io.BytesIO(content(tree, number)))
    return Gldv2(root)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize(
    "folder", ["", "./index/", "/", f"{'deep/' * 30}", f"{'n' * 250}/", "ä" * 70 + "/" + "b" * 90 + "/"]
)
def test_images_are_those_of_the_tree(tree, tmp_path, form, folder):
    if form == tarfile.USTAR_FORMAT and len(folder.encode()) > 160:
        pytest.skip("the format has no such names")
    packs = packed(tree, tmp_path / "tars", form=form, folder=folder)
    source = open_source(packs, "index")
    for number in range(COUNT):
        assert source.read(image_id(number)) == content(tree, number)
        assert source.size(image_id(number)) == len(content(tree, number))
    assert fingerprint(packs, "index") == fingerprint(tree, "index")


@pytest.mark.skipif(not shutil.which("tar"), reason="there is no tar here")
@pytest.mark.parametrize("form", ["gnu", "posix", "ustar", "oldgnu", "v7"])
def test_tars_of_the_command_are_read(tree, tmp_path, form):
    folder = tmp_path / "tars" / "index"
    folder.mkdir(parents=True)
    shutil.copy(tree.root / "index.csv", folder.parent)
    command = ["tar", f"--format={form}", "-cf", str(folder / "images_000.tar"), "-C", str(tree.root / "index"), "."]
    subprocess.run(command, check=True)
    packs = Gldv2(folder.parent)
    assert fingerprint(packs, "index") == fingerprint(tree, "index")
    assert open_source(packs, "index").read(image_id(3)) == content(tree, 3)
    assert check_data(packs.root, workers=2)[1] == {"index": 0}


def test_an_image_is_named_by_its_tar_and_member(tree, tmp_path):
    source = open_source(packed(tree, tmp_path / "tars", folder="./"), "index")
    name = image_id(1)
    assert source.place(name) == f"{tmp_path}/tars/index/images_001.tar:./{name[0]}/{name[1]}/{name[2]}/{name}.jpg"
    assert source.size("f" * 16) is None and source.changed("f" * 16) is None
    with pytest.raises(UnreadableImageError, match=r"index/\*\.tar:f{16}\.jpg: no such member"):
        source.read("f" * 16)


def test_damaged_members_are_found_by_the_check(tree, tmp_path, capsys):
    cut = tree.image_path("index", image_id(4))
    cut.write_bytes(cut.read_bytes()[:-40])
    packs = packed(tree, tmp_path / "tars")
    (packs.root / "index.csv").write_text(f"id\n{image_id(4)}\n{image_id(5)}\n{'f' * 16}\n", encoding="utf-8")
    assert check_data(packs.root, workers=1)[1] == {"index": 2}
    assert "images_001.tar:" in capsys.readouterr().err
    assert Gldv2(packs.root).unreadable("index") == {image_id(4), "f" * 16}


def test_members_that_are_no_images_are_ignored(tree, tmp_path):
    packs = packed(tree, tmp_path / "tars")
    with tarfile.open(packs.root / "index" / "more.tar", "w") as tar:
        for name in ("README.txt", f"._{image_id(1)}.jpg", f"{image_id(1)}.jpg.part", f"{image_id(1)}x.jpg", "ABC.jpg"):
            tar.addfile(tarfile.TarInfo(name))
        link = tarfile.TarInfo(f"{image_id(1)}.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    (packs.root / "index" / ".images_009.tar").write_bytes(b"a download that goes on")
    assert open_source(packs, "index").read(image_id(1)) == content(tree, 1)


def test_a_tar_without_images_is_no_error(tree, tmp_path):
    packs = packed(tree, tmp_path / "tars", tars=1)
    tarfile.open(packs.root / "index" / "none.tar", "w").close()
    assert open_source(packs, "index").size(image_id(0))
    (packs.root / "index" / "images_000.tar").unlink()
    assert open_source(packs, "index").size(image_id(0)) is None


def test_a_tar_that_is_cut_off_anywhere_is_refused(tree, tmp_path):
    packs = packed(tree, tmp_path / "tars", tars=1)
    [tar] = (packs.root / "index").iterdir()
    whole = tar.read_bytes()
    with tarfile.open(tar) as opened:
        last = opened.getmembers()[-1]
        end = last.offset_data + -(-last.size // 512) * 512
    rng = np.random.default_rng(1)
    for kept in (
        0,
        100,
        511,
        512,
        600,
        last.offset,
        last.offset_data,
        end - 512,
        end,
        end + 511,
        *rng.integers(0, end, 40),
    ):
        tar.write_bytes(whole[:kept])
        with pytest.raises(DataError, match=r"images_000\.tar is cut short: .* Download it again"):
            open_source(packs, "index")
    tar.write_bytes(whole[: end + 512])
    assert open_source(packs, "index").size(image_id(0)), "one block of zeros ends a tar as well"


def test_a_damaged_header_is_refused_wherever_it_is(tree, tmp_path):
    packs = packed(tree, tmp_path / "tars", tars=1)
    [tar] = (packs.root / "index").iterdir()
    whole = tar.read_bytes()
    with tarfile.open(tar) as opened:
        second = opened.getmembers()[1].offset
    for place, field in ((0, 0), (0, 130), (second, 10), (second, 126), (second, 150), (second, 400)):
        damaged = bytearray(whole)
        damaged[place + field] ^= 0x15
        tar.write_bytes(damaged)
        with pytest.raises(DataError, match="is no tar" if place == 0 else f"is damaged: .* at byte {second:,}"):
            open_source(packs, "index")


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed_tars_are_named_as_such(tree, tmp_path, compress: Callable[[bytes], bytes]):
    packs = packed(tree, tmp_path / "tars", tars=1)
    [tar] = (packs.root / "index").iterdir()
    tar.write_bytes(compress(tar.read_bytes()))
    with pytest.raises(DataError, match=r"images_000\.tar is compressed with (gzip|bzip2|xz).* Decompress it"):
        open_source(packs, "index")
    tar.rename(tar.with_name("images_000.tar.gz"))
    with pytest.raises(DataError, match=r"images_000\.tar\.gz is compressed; expected \.tar files"):
        open_source(packs, "index")


def test_what_is_no_tar_is_named_as_such(tree, tmp_path):
    packs = packed(tree, tmp_path / "tars", tars=1)
    [tar] = (packs.root / "index").iterdir()
    tar.write_bytes(b"<html>404 not found</html>" * 100)
    with pytest.raises(DataError, match=r"images_000\.tar is no tar"):
        open_source(packs, "index")
    tar.unlink()
    tar.mkdir()
    with pytest.raises(DataError, match=r"images_000\.tar is a folder"):
        open_source(packs, "index")


def test_one_id_in_two_tars_is_refused_with_both(tree, tmp_path):
    packs = packed(tree, tmp_path / "tars", tars=2)
    first = packs.root / "index" / "images_000.tar"
    shutil.copy(first, first.with_name("images_007.tar"))
    with pytest.raises(
        DataError, match=r"images_000\.tar:\S+\.jpg and \S+images_007\.tar:\S+ are the same id.*\(20 are"
    ):
        open_source(packs, "index")


def test_a_tar_that_changes_after_it_was_indexed(tree, tmp_path):
    packs = packed(tree, tmp_path / "tars", tars=1)
    [tar] = (packs.root / "index").iterdir()
    before, source = fingerprint(packs, "index", times=True), open_source(packs, "index")
    os.utime(tar, ns=(5, 5))
    assert fingerprint(packs, "index", times=True) != before
    os.truncate(tar, 700)
    with pytest.raises(UnreadableImageError, match="shorter since it was indexed"):
        source.read(image_id(COUNT - 1))
    tar.unlink()
    with pytest.raises(UnreadableImageError, match="No such file"):
        source.read(image_id(0))


@pytest.mark.parametrize(
    "field", [b"\x80" + (1000).to_bytes(11, "big"), b"0000001750 \0", b"      1750\0\0", b"1750" + bytes(8)]
)
def test_every_way_to_write_a_size_is_read(tmp_path, field):
    """Octal with zeros, spaces or null characters around it, and GNU's binary."""
    member = tarfile.TarInfo(f"{image_id(0)}.jpg")
    header = bytearray(member.tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = field
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "a.tar").write_bytes(bytes(header) + bytes(1024) + bytes(1024))
    assert open_source(Gldv2(tmp_path), "index").size(image_id(0)) == 1000


def test_an_image_that_no_memory_holds_is_not_read(tree, tmp_path, monkeypatch):
    for module in ("sources", "tar_shards"):
        monkeypatch.setattr(f"retrieval.data.{module}.IMAGE_BYTES", 400)
    for dataset in (tree, packed(tree, tmp_path / "tars")):
        source = open_source(dataset, "index")
        with pytest.raises(UnreadableImageError, match="more than the limit of 400"):
            source.read(image_id(30))


def test_files_that_are_missing_or_no_files_say_so(tree):
    source = open_source(tree, "index")
    assert source.size("f" * 16) is None and source.changed("f" * 16) is None
    with pytest.raises(UnreadableImageError, match=r"index/f/f/f/f{16}\.jpg: no such file"):
        source.read("f" * 16)
    path = tree.image_path("index", image_id(0))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UnreadableImageError, match="not a file"):
        source.read(image_id(0))
