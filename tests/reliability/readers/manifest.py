"""A SavedModel's manifest (`zoo.manifest`)."""

import json
from dataclasses import asdict, replace
from pathlib import Path

from hypothesis import strategies as st

from tests.reliability.mutations import damaged
from tests.reliability.reader import Reader
from zoo.manifest import FORMAT, PLACE, Check, Combined, Manifest, ParityRow, Source, model_identity, read_manifest
from zoo.specs import ImportedSpec, PreprocessSpec
from zoo.variants import get_spec

_ROW = ParityRow("torch → tf 2.2", "m", 1e-7, 1.0, 1e-5)
_SOURCE = Source(get_spec("resnet10_narrow"), "0" * 64, "torch", {"torch": "2"}, {}, parity=[_ROW])
_IMPORTED = replace(_SOURCE, spec=ImportedSpec("n", PreprocessSpec(), 8), exported_from="onnx", parity=None)
_MANIFEST = Manifest([_SOURCE, _IMPORTED], Combined(), [_ROW], Check("2.2.0", "run", accepted=True))
_VALUES = {"format": FORMAT, **asdict(_MANIFEST)}
_VALID = json.dumps(_VALUES).encode()
_OTHERS = st.sampled_from((None, 0, -1, 10**30, 1.5, "", "x", [], {}, [{}], True, float("nan"), "\ud800"))


@st.composite
def _edited(draw: st.DrawFn) -> bytes:
    """A manifest in which one value, at any depth, is another one, or a key is added or missing."""
    values = json.loads(_VALID)
    place = values
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            break
        key = draw(st.sampled_from(keys))
        if isinstance(place[key], dict | list) and place[key] and draw(st.integers(0, 3)):
            place = place[key]
            continue
        kind = draw(st.sampled_from(("other", "other", "missing", "added")))
        if kind == "missing":
            del place[key]
        elif kind == "added" and isinstance(place, dict):
            place["unknown"] = 1
        else:
            place[key] = draw(_OTHERS)
        break
    return json.dumps(values).encode()


def _read(folder: Path) -> None:
    manifest = read_manifest(folder)
    if manifest is not None:
        assert manifest.sources, "a model of nothing"
        json.dumps(model_identity(manifest))
        assert manifest.name and manifest.inputs


_HOSTILE = st.sampled_from((b"", b"[" * 100_000, b"null", b"{}", b"9" * 5000, b"\xff", b'{"format": 1e999}'))
READER = Reader(
    "manifest",
    st.one_of(damaged(_VALID), _edited(), _HOSTILE).map(lambda content: {str(PLACE): content}),
    _read,
)
