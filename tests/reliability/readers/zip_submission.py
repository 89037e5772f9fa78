"""submission.zip files of anybody (`export.zips`, `export.check`)."""

import io
import tempfile
import warnings
import zipfile
from pathlib import Path

from hypothesis import strategies as st

from export.zips import unzip
from tests.reliability.mutations import damaged
from tests.reliability.reader import Reader

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_NAMES = st.sampled_from(
    (
        *(
            "saved_model.pb",
            "variables/variables.index",
            "../escaped",
            "/escaped",
            "a/../../escaped",
            "a\\..\\b",
            "C:/a",
            "",
            ".",
        ),
        *("/".join("a" * 200), "a" * 5000, "a", "a/b", "A", "é\udc80", "a\n", "..", "a/"),
    )
)


def _zip(entries: list[tuple[str, bytes, int]], mode: int = 0o100644) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w") as archive:
        warnings.simplefilter("ignore")  # a name twice
        for name, content, method in entries:
            entry = zipfile.ZipInfo(name.encode("utf-8", "replace").decode())
            entry.compress_type, entry.external_attr = method, mode << 16
            archive.writestr(entry, content)
    return buffer.getvalue()


_ENTRY = st.tuples(_NAMES, st.sampled_from((b"", b"x", b"abc" * 50, bytes(30_000_000))), st.sampled_from(_METHODS))
_VALID = [_zip([("saved_model.pb", b"abc" * 20, method), ("variables/a", b"x", method)]) for method in _METHODS]


def _encrypted(content: bytes) -> bytes:
    """The flag of encryption in both headers of the first entry."""
    directory = content.index(b"PK\x01\x02")
    return content[:6] + b"\x01" + content[7 : directory + 8] + b"\x01" + content[directory + 9 :]


def _bomb(times: int) -> bytes:
    """Many entries of zeros; in the directory each is as large as 2 GiB."""
    content = _zip([(f"f{number}", bytes(1000), zipfile.ZIP_DEFLATED) for number in range(times)])
    return content.replace((1000).to_bytes(4, "little"), (2**31 - 1).to_bytes(4, "little"))


def _read(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        inside = Path(folder, "inside")
        inside.mkdir()
        try:
            unzip(path, inside)
        finally:
            assert [p.name for p in Path(folder).iterdir()] == ["inside"], "it wrote beside its folder"
            assert not [p for p in inside.rglob("*") if p.is_symlink()]


READER = Reader(
    "zip",
    st.one_of(
        st.sampled_from(_VALID).flatmap(damaged),
        st.lists(_ENTRY, min_size=1, max_size=4).map(_zip),
        st.lists(_ENTRY, min_size=1, max_size=2).map(lambda entries: _zip(entries, 0o120777)),
        st.sampled_from(_VALID).map(_encrypted),
        st.sampled_from((1, 20, 12_000)).map(_bomb),
    ),
    _read,
    place="submission.zip",
)
