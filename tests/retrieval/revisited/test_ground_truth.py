"""The published pickles are read without executing anything, checked, and converted to JSON."""

import collections
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from retrieval.revisited.ground_truth import Query, read_ground_truth, write_ground_truth
from tests.reliability import pickles
from zoo.errors import DataError

IMAGES = ["a", "b", "c", "d"]


def entry(easy: list, hard: list, junk: list, box: tuple = (1.5, 2, 30, 40)) -> dict:
    return {"bbx": list(box), "easy": easy, "hard": hard, "junk": junk}


def content(**changed: object) -> dict:
    """As the published files are: positions in `imlist`."""
    values = {"gnd": [entry([0], [1], [3]), entry([], [2], [])], "imlist": IMAGES, "qimlist": ["p", "q"]}
    return values | changed


@pytest.fixture
def write(tmp_path):
    def write(value: object, protocol: int = 3) -> Path:
        path = tmp_path / "gnd.pkl"
        path.write_bytes(value if isinstance(value, bytes) else pickle.dumps(value, protocol))
        return path

    return write


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_reads_the_published_layout(write, protocol):
    truth = read_ground_truth(write(content(), protocol))
    assert truth.images == ("a", "b", "c", "d")
    assert truth.queries == (
        Query("p", (1.5, 2, 30, 40), ("a",), ("b",), ("d",)),
        Query("q", (1.5, 2, 30, 40), (), ("c",), ()),
    )


def test_the_json_has_the_same_content(write, tmp_path):
    truth = read_ground_truth(write(content()))
    write_ground_truth(tmp_path / "gnd.json", truth)
    assert read_ground_truth(tmp_path / "gnd.json") == truth
    text = (tmp_path / "gnd.json").read_text(encoding="utf-8")
    for wrong in (text.replace("revisited 1", "revisited 0"), text.replace('"easy"', '"ok"', 1), text[:-9]):
        (tmp_path / "gnd.json").write_text(wrong, encoding="utf-8")
        with pytest.raises(DataError, match="is not a ground truth of Revisited Oxford or Paris"):
            read_ground_truth(tmp_path / "gnd.json")


class Calls:
    """Unpickling it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("key", ["gnd", "imlist", "an extra key"])
def test_a_class_is_refused_and_never_called(write, tmp_path, protocol, key):
    alarm = tmp_path / "executed"
    path = write(content(**{key: [Calls(alarm)]}), protocol)
    pickle.loads(path.read_bytes())  # it is alive
    alarm.rmdir()
    with pytest.raises(DataError, match="names a class or a function"):
        read_ground_truth(path)
    assert not alarm.exists()


@pytest.mark.parametrize(
    "harmless", [np.arange(3), np.float64(1), collections.OrderedDict(a=1), collections.Counter("a"), 1j, Path("a")]
)
def test_harmless_classes_are_refused_too(write, harmless):
    with pytest.raises(DataError, match="names a class or a function"):
        read_ground_truth(write(content(more=harmless)))


_SELF = b"]q\x00h\x00a"


@pytest.mark.parametrize(
    ("bytes_", "message"),
    [
        (b"", "no end"),
        (b"\x80\x03", "no end"),
        (b"hello, this is a text", "not plain values"),
        (pickles.program(pickles.text("a text")), "a dict with the key 'imlist'"),
        (pickles.program(pickles.nested(100)), "levels of nesting"),
        (pickles.program(pickles.doubled(40)), "a dict with the key"),
        (pickles.program(_SELF), "nesting"),
        (b"\x80\x03" + b"]0" * 1_000_001 + b".", "steps"),
        (b"\x80\x03cos\nsystem\n.", "'os system'"),
        (b"(ios\nsystem\n.", "'os system'"),
        (b"\x80\x03U\x02os\x93.", "names a class"),
        (b"\x80\x02\x82\x01.", "names a class"),
    ],
)
def test_hostile_programs(write, bytes_, message):
    with pytest.raises(DataError, match=message):
        read_ground_truth(write(bytes_))


def test_a_small_file_cannot_ask_for_endless_lists(write):
    """One list of 100,000 positions that 1,000 queries refer to: 100 million names of a file of a megabyte."""
    positions = [0] * 100_000
    query = entry(positions, positions, positions)
    path = write(content(gnd=[query] * 1000, qimlist=[f"q{number}" for number in range(1000)]))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(DataError, match="positions in its lists, more than the limit"):
        read_ground_truth(path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"gnd": [entry([0], [1], [3])]}, "as many queries in qimlist as in gnd, found 2 and 1"),
        ({"gnd": [entry([4], [], []), entry([], [], [])]}, "positions from 0 to 3, found 4"),
        ({"gnd": [entry([-1], [], []), entry([], [], [])]}, "found -1"),
        ({"gnd": [entry([True], [], []), entry([], [], [])]}, "found True"),
        ({"gnd": [entry([1.0], [], []), entry([], [], [])]}, "found 1.0"),
        ({"gnd": [entry([0], [0], []), entry([], [], [])]}, "each name once, found 'a' 2 times"),
        ({"gnd": [entry([0], [], [], (9, 2, 3, 4)), entry([], [], [])]}, "box of 'p'"),
        ({"gnd": [entry([0], [], [], (1, 2, 3)), entry([], [], [])]}, "4"),
        ({"gnd": [entry([0], [], [], (1, 2, float("inf"), 4)), entry([], [], [])]}, "finite"),
        ({"gnd": [{"bbx": [1, 2, 3, 4], "ok": [], "junk": []}] * 2}, "the key 'easy'"),
        ({"imlist": ["a", "b", "c", "c"]}, "images: expected each name once"),
        ({"imlist": ["a", "b", "c", "d e"]}, "without white space"),
        ({"imlist": ["a", "b", "c", 4]}, "text"),
        ({"qimlist": ["p", "p"]}, "queries: expected each name once"),
        ({"gnd": [], "qimlist": []}, "at least one"),
        ({"imlist": ("a", "b", "c", "d")}, "imlist: expected a list, found tuple"),
    ],
)
def test_a_wrong_content_is_named(write, changed, message):
    with pytest.raises(DataError, match=message):
        read_ground_truth(write(content(**changed)))


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"does not exist; expected a ground truth\. Expected gnd_roxford5k\.pkl"):
        read_ground_truth(tmp_path / "none.pkl")
