"""The tars that a data set is published as (`retrieval.data.tar_shards`)."""

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

from hypothesis import strategies as st

from retrieval.data.gldv2 import Gldv2
from retrieval.data.sources import open_source
from tests.reliability.mutations import damaged
from tests.reliability.reader import Reader
from zoo.limits import IMAGE_BYTES

IDS = tuple(f"{number:015x}a" for number in range(4))
PLACE = "index/images_000.tar"


def tar(names: Sequence[str], form: int = tarfile.USTAR_FORMAT) -> bytes:
    """A tar of members of different sizes."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as made:
        for number, name in enumerate(names):
            member = tarfile.TarInfo(name)
            member.size, member.mtime = 300 * number, 1.5
            made.addfile(member, io.BytesIO(b"x" * member.size))
    return file.getvalue().rstrip(b"\0") + bytes(1024 + -len(file.getvalue().rstrip(b"\0")) % 512)


def header(name: str, size: bytes, kind: bytes = b"0") -> bytes:
    """A header with a true checksum that claims any size."""
    made = bytearray(tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT))
    made[124:136], made[156:157], made[148:156] = size, kind, b" " * 8
    made[148:156] = b"%06o\0 " % sum(made)
    return bytes(made)


_FORMS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
_SIZE = st.one_of(
    st.sampled_from(
        (b"0" * 12, b"7" * 12, b" " * 12, b"8" * 12, b"\x80" + b"\xff" * 11, b"\xff" * 12, b"-1         \0")
    ),
    st.integers(0, 4000).map(lambda size: b"%011o\0" % size),
    st.binary(min_size=12, max_size=12),
)
_PARTS = st.lists(
    st.one_of(
        st.builds(
            header, st.sampled_from(IDS).map("{}.jpg".format), _SIZE, st.sampled_from((b"0", b"5", b"L", b"x", b"S"))
        ),
        st.sampled_from(
            (b"30 path=" + b"a" * 500, b"27 size=9999999999999999999\n", b"9 size=-1\n", b"", b"\xff" * 512)
        ).map(lambda content: content.ljust(512, b"\0")),
    ),
    max_size=6,
).map(b"".join)


def _read(root: Path) -> None:
    source = open_source(Gldv2(root), "index", progress=False)
    for image_id in (*IDS, "f" * 16):
        assert isinstance(source.place(image_id), str)
        size = source.size(image_id)
        if size is not None and size <= IMAGE_BYTES:
            assert len(source.read(image_id)) == size


READER = Reader(
    "tar of images",
    st.one_of(
        st.sampled_from(_FORMS).flatmap(lambda form: damaged(tar([f"{'d' * 120}/{i}.jpg" for i in IDS], form))),
        _PARTS.map(lambda parts: parts + bytes(1024)),
    ).map(lambda content: {PLACE: content}),
    _read,
)
