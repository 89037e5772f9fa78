import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval.data.check import check_data
from retrieval.data.fingerprint import fingerprint, fingerprints
from retrieval.data.gldv2 import Gldv2
from retrieval.data.images import read_image
from zoo.errors import DataError, OutputError


def image_id(number: int) -> str:
    return f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}"


def picture(number: int, width: int = 60, height: int = 48) -> Image.Image:
    """Smooth, so that JPEG preserves it, and with all rows, columns and channels different."""
    rng = np.random.default_rng(number)
    small = Image.fromarray(rng.integers(0, 256, (6, 5, 3), np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """11 training images of 3 landmarks, 3 index images and 2 queries."""
    dataset = Gldv2(tmp_path)
    landmarks = [900, 7, 7, 52, 900, 7, 52, 52, 900, 7, 7]
    train = [(image_id(k), landmark) for k, landmark in enumerate(landmarks)]
    index, test = [image_id(k) for k in (20, 21, 22)], [image_id(k) for k in (30, 31)]
    rows = "".join(f'{name},"https://a.invalid/x,y",{landmark}\n' for name, landmark in train)
    (tmp_path / "train.csv").write_text("id,url,landmark_id\n" + rows)
    (tmp_path / "index.csv").write_text("\n".join(["id", *index]) + "\n")
    (tmp_path / "test.csv").write_text("\n".join(["id", *test]) + "\n")
    for split, ids in (("train", [name for name, _ in train]), ("index", index), ("test", test)):
        for name in ids:
            path = dataset.image_path(split, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(int(name[:8], 16)).save(path, quality=95)
    return tmp_path


def test_classes_are_the_sorted_landmark_ids(root):
    train = Gldv2(root).train()
    assert train.landmark_ids == (7, 52, 900)
    assert train.labels.tolist() == [2, 0, 0, 1, 2, 0, 1, 1, 2, 0, 0]
    assert train.labels.dtype == np.int64
    assert train.ids[:2] == (image_id(0), image_id(1))


def test_train_clean_comes_before_train(root):
    (root / "train_clean.csv").write_text(f"landmark_id,images\n900,{image_id(0)}\n7,{image_id(2)} {image_id(1)}\n")
    train = Gldv2(root).train()
    assert train.ids == (image_id(0), image_id(2), image_id(1))
    assert train.labels.tolist() == [1, 0, 0]
    assert train.landmark_ids == (7, 900)


def test_train_clean_may_name_ten_thousand_images_in_one_field(root):
    ids = [image_id(k) for k in range(100, 10_100)]
    (root / "train_clean.csv").write_text(f"landmark_id,images\n3,{' '.join(ids)}\n")
    assert Gldv2(root).train().ids == tuple(ids)


def test_image_path_and_solution_path(root):
    dataset = Gldv2(root)
    assert dataset.image_path("index", "0123456789abcdef") == root / "index/0/1/2/0123456789abcdef.jpg"
    assert dataset.solution_path == root / "retrieval_solution_v2.1.csv"


def test_unreadable_images_leave_train_and_index_but_not_the_queries_or_the_classes(root):
    bad = [("train", image_id(0)), ("train", image_id(4)), ("train", image_id(8)), ("index", image_id(21))]
    rows = "".join(f"{split},{name},no such file\n" for split, name in [*bad, ("test", image_id(30))])
    (root / "unreadable.csv").write_text("split,id,reason\n" + rows)
    dataset = Gldv2(root)
    train = dataset.train()
    assert len(train.ids) == 8 and image_id(0) not in train.ids
    assert train.labels.tolist() == [0, 0, 1, 0, 1, 1, 0, 0]
    assert train.landmark_ids == (7, 52, 900)
    assert dataset.readable_ids("index") == (image_id(20), image_id(22))
    assert dataset.named_ids("test") == (image_id(30), image_id(31))
    assert dataset.unreadable("test") == {image_id(30)}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("train.csv", "id,url,landmark_id\n0123456789abcdef,u,1\n0123456789abcdef,u,1\n", ["line 3", "once"]),
        ("train.csv", "id,url,landmark_id\n\n0123456789ABCDEF,u,1\n", ["line 3", "16 hexadecimal", "0123456789ABCDEF"]),
        ("train.csv", "id,url,landmark_id\n../../etc/passwd,u,1\n", ["line 2", "16 hexadecimal"]),
        ("train.csv", "id,url,landmark_id\n0123456789abcdef,u,one\n", ["line 2", "integer", "one"]),
        ("train.csv", "id,url,landmark_id\n0123456789abcdef,1\n", ["line 2", "3 fields"]),
        ("train.csv", f"id,url,landmark_id\n0123456789abcdef,u,{2**64}\n", ["line 2", "18 digits"]),
        ("train.csv", f"id,url,landmark_id\n0123456789abcdef,u,{'9' * 5000}\n", ["line 2", "18 digits"]),
        ("train.csv", "id,url,landmark_id\n0123456789abcdef,u,٣\n", ["line 2", "integer"]),
        ("index.csv", f"id\n{'a' * (1 << 24)}b\n", ["longer than"]),
        ("index.csv", 'id\n"' + f"{'a' * 999}\n" * (1 << 15), ["longer than"]),
        ("index.csv", "id\n" + '"\n",' * (1 << 23), ["longer than"]),
        ("index.csv", "id,id\n0123456789abcdef,0123456789abcdee\n", ["line 1", "one column 'id'", "id,id"]),
        ("index.csv", "id\nIMG_2041\n", ["line 2", "from_folder"]),
        ("index.csv", "id\n0123456789abcd\0f\n", ["line 2", "16 hexadecimal"]),
        ("train.csv", "id,url\n0123456789abcdef,u\n", ["line 1", "landmark_id"]),
        ("train.csv", "", ["line 1", "'id'"]),
        ("train_clean.csv", "landmark_id,images\n1,0123456789abcdef\n2,0123456789abcdef\n", ["line 3", "once"]),
        ("index.csv", "id\n0123456789abcdef\n0123456789abcdef\n", ["line 3", "once"]),
        ("test.csv", "id\n0123\n", ["line 2", "16 hexadecimal"]),
        ("index.csv", "id\n\udcff\udcfe\n", ["UTF-8"]),
        ("unreadable.csv", "split,id,reason\nindeks,0123456789abcdef,x\n", ["line 2", "split"]),
    ],
)
def test_a_bad_table_names_file_and_line(root, name, text, words):
    (root / name).write_text(text, errors="surrogateescape")
    with pytest.raises(DataError) as caught:
        dataset = Gldv2(root)
        dataset.train(), dataset.readable_ids("index"), dataset.named_ids("test")
    assert all(word in str(caught.value) for word in [name, *words]), caught.value


@pytest.mark.parametrize("name", ["train.csv", "index.csv", "test.csv"])
def test_a_missing_table_is_named_with_its_columns(root, name):
    (root / name).unlink()
    with pytest.raises(
        DataError, match=rf"{name} does not exist; expected a table with the columns id.*retrieval\.demo"
    ):
        dataset = Gldv2(root)
        dataset.train(), dataset.readable_ids("index"), dataset.named_ids("test")


def test_a_missing_root_is_an_error(tmp_path):
    with pytest.raises(DataError, match="does not exist; expected the root of a data set"):
        Gldv2(tmp_path / "nowhere")


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_check_data_reports_images_that_would_be_clipped(root, mode, capsys):
    """They stay in use, because the scorer decodes them in the same way."""
    path = Gldv2(root).image_path("index", image_id(20))
    deep = Image.new(mode, (20, 10), 30_000)
    deep.save(path, format="PNG" if mode == "I;16" else "TIFF")
    assert read_image(path).min() == 255
    assert check_data(root, workers=1)[1]["index"] == 0
    said = capsys.readouterr().err
    assert f"{path}: grey with more than 8 bits" in said and "index: 1 images are kept but lose" in said


@pytest.mark.parametrize("name", ["train.csv", "index.csv", "test.csv"])
def test_tables_may_begin_with_a_byte_order_mark(root, name):
    table = root / name
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes())
    dataset = Gldv2(root)
    assert dataset.train().ids and dataset.named_ids("index") and dataset.named_ids("test")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
def test_a_table_in_utf_16_is_an_error_that_says_so(root, encoding):
    text = (root / "index.csv").read_text(encoding="utf-8")
    (root / "index.csv").write_bytes(text.encode(encoding))
    expected = "it is UTF-16; save it as UTF-8" if encoding == "utf-16" else "expected a header"
    with pytest.raises(DataError, match=expected):
        Gldv2(root).named_ids("index")


def test_check_data_lists_downloads_that_stopped(root):
    dataset = Gldv2(root)
    image_id = dataset.named_ids("index")[0]
    path = dataset.image_path("index", image_id)
    data = path.read_bytes()
    path.write_bytes(data[:-400] + bytes(400))
    check_data(root, workers=1)
    assert image_id in Gldv2(root).unreadable("index")


def test_a_fingerprint_follows_the_tables_and_the_images_of_its_split(root):
    def prints() -> dict[str, str]:
        return {split: fingerprint(Gldv2(root), split) for split in ("train", "index", "test")}

    before = prints()
    assert prints() == before and len(set(before.values())) == 3
    image = Gldv2(root).image_path("index", image_id(20))
    image.write_bytes(image.read_bytes() + b"\0")
    after = prints()
    assert {split for split in before if after[split] != before[split]} == {"index"}
    (root / "unreadable.csv").write_text("split,id,reason\n")
    assert prints() == after, "a check that found nothing changes nothing"
    (root / "unreadable.csv").write_text(f"split,id,reason\ntest,{image_id(30)},x\n")
    assert {split for split in before if prints()[split] != after[split]} == {"test"}
    (root / "unreadable.csv").unlink()
    rows = (root / "train.csv").read_text().splitlines()
    (root / "train.csv").write_text("\n".join(rows[:-1]) + "\n")
    assert {split for split in before if prints()[split] != after[split]} == {"train"}


@pytest.mark.parametrize("split", ["train", "index", "test"])
def test_a_fingerprint_with_times_follows_an_image_of_the_same_size(root, split):
    image = Gldv2(root).image_path(split, Gldv2(root).named_ids(split)[0])
    before = fingerprint(Gldv2(root), split), fingerprint(Gldv2(root), split, times=True)
    image.write_bytes(bytes(len(image.read_bytes())))
    after = fingerprint(Gldv2(root), split), fingerprint(Gldv2(root), split, times=True)
    assert after[0] == before[0] and after[1] != before[1]


@pytest.mark.parametrize("split", ["train", "index", "test"])
def test_both_fingerprints_of_one_pass_are_those_of_two(root, split):
    dataset = Gldv2(root)
    assert fingerprints(dataset, split) == (fingerprint(dataset, split), fingerprint(dataset, split, times=True))


def test_check_data_lists_missing_and_broken_images_and_training_skips_them(root):
    dataset = Gldv2(root)
    ids = dataset.train().ids
    dataset.image_path("train", ids[2]).unlink()
    cut = dataset.image_path("train", ids[6])
    cut.write_bytes(cut.read_bytes()[:-300])
    dataset.image_path("test", image_id(31)).write_bytes(b"no picture")
    path, counts = check_data(root, workers=2)
    assert counts == {"train": 2, "index": 0, "test": 1}
    with open(path, newline="") as file:
        found = {(row["split"], row["id"]): row["reason"] for row in csv.DictReader(file)}
    assert found.pop(("train", ids[2])) == "no such file"
    assert "truncated" in found.pop(("train", ids[6]))
    assert list(found) == [("test", image_id(31))]
    assert found["test", image_id(31)].startswith("not an image of an expected format")
    train = Gldv2(root).train()
    assert len(train.ids) == 9
    # An image that was replaced is used again; one that is still broken stays listed.
    picture(1).save(dataset.image_path("train", ids[2]))
    assert check_data(root, workers=1)[1] == {"train": 1, "index": 0, "test": 1}


def test_check_data_command(root):
    (root / "index.csv").unlink()
    command = [sys.executable, "-m", "retrieval.data.check", "--data"]
    done = subprocess.run([*command, str(root)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(root / "unreadable.csv")
    assert "train: 11 images, 0 unreadable" in done.stderr and "test: 2 images" in done.stderr
    assert "there is no index.csv" in done.stderr
    (root / "train.csv").unlink()
    (root / "test.csv").unlink()
    failed = subprocess.run([*command, str(root)], capture_output=True, text=True, timeout=60)
    assert failed.returncode == 2 and "holds none of train.csv" in failed.stderr


def test_check_data_reads_every_table_before_the_first_image(root, monkeypatch):
    (root / "test.csv").write_text("id\nIMG_2041\n")
    monkeypatch.setattr("retrieval.data.check.decode", lambda *_: pytest.fail("an image was read"))
    with pytest.raises(DataError, match=r"test\.csv, line 2"):
        check_data(root, workers=1)
    assert not (root / "unreadable.csv").exists()


def test_a_read_only_data_set_is_checked_too(root, monkeypatch, capsys):
    """The permission is pretended: the tests may run as a user who may write everywhere."""
    monkeypatch.setattr("os.access", lambda *_: False)
    assert check_data(root, workers=1) == (None, {"train": 0, "index": 0, "test": 0})
    assert "every image is readable: unreadable.csv is not needed" in capsys.readouterr().err
    Gldv2(root).image_path("index", image_id(20)).write_bytes(b"")
    with pytest.raises(OutputError, match=r"1 images are unreadable.*read-only.*ln -s .* --data LINKS"):
        check_data(root, workers=1)
    assert not (root / "unreadable.csv").exists()
