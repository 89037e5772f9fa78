"""The tables of a data set (`retrieval.data.gldv2`)."""

from pathlib import Path

from hypothesis import strategies as st

from retrieval.data.gldv2 import Gldv2
from tests.reliability.mutations import damaged_folder
from tests.reliability.reader import Reader

_IDS = [f"{number:016x}" for number in range(6)]
_VALID = {
    "train.csv": b"id,url,landmark_id\n" + "".join(f'{i},"http://a/b,c",{n}\n' for n, i in enumerate(_IDS)).encode(),
    "train_clean.csv": b"landmark_id,images\n1,"
    + " ".join(_IDS[:4]).encode()
    + b"\n9223372036,"
    + _IDS[4].encode()
    + b"\n",
    "index.csv": "\n".join(["\ufeffid", *_IDS, ""]).encode(),
    "test.csv": "\r\n".join(["id", *_IDS, ""]).encode(),
    "unreadable.csv": b"split,id,reason\nindex," + _IDS[0].encode() + b",no such file\n",
}
_CELL = st.one_of(
    st.sampled_from(
        (
            "",
            "id",
            "images",
            "landmark_id",
            "split",
            "train",
            "../../etc/passwd",
            "9" * 30,
            "9" * 5000,
            "-1",
            "1e9",
            "NaN",
        )
    ),
    st.sampled_from(_IDS),
    st.text(max_size=8),
)
_ROWS = st.lists(st.lists(_CELL, min_size=1, max_size=4).map(",".join), max_size=8).map("\n".join)


def _read(root: Path) -> None:
    dataset = Gldv2(root)
    train = dataset.train()
    assert len(train.ids) == len(train.labels) and len(set(train.ids)) == len(train.ids)
    for split in ("index", "test"):
        for image_id in dataset.readable_ids(split):
            assert dataset.image_path(split, image_id).is_relative_to(root)


READER = Reader(
    "tables of a data set",
    st.one_of(
        damaged_folder(_VALID),
        st.tuples(st.sampled_from(sorted(_VALID)), _ROWS).map(
            lambda drawn: _VALID | {drawn[0]: drawn[1].encode("utf-8", "surrogatepass")}
        ),
        st.sampled_from(sorted(_VALID)).map(lambda name: _VALID | {name: b'id,"' + b"a" * (1 << 25)}),
    ),
    _read,
)
