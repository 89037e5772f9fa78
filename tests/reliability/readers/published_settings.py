"""What training scripts store beside the tensors (`zoo.published.settings`), as pickles with lies."""

import struct
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from tests.reliability import pickles
from tests.reliability.reader import Reader
from zoo.published.files import read_contents
from zoo.published.settings import three_numbers

_PCA = "sklearn.decomposition._pca.PCA"


def _real(value: float) -> bytes:
    """BINFLOAT."""
    return b"G" + struct.pack(">d", value)


def _array(values: np.ndarray) -> bytes:
    """A numpy array of float64."""
    kind = pickles.called("numpy.dtype", pickles.text("f8"), b"\x89", b"\x88")
    kind += pickles.tupled(pickles.number(3), pickles.text("<"), *[b"N"] * 3, *[pickles.number(-1)] * 2) + b"b"
    raw = values.astype("<f8").tobytes()
    shape = pickles.tupled(*map(pickles.number, values.shape))
    made = pickles.called("numpy.core.multiarray._reconstruct", pickles.function("numpy.ndarray"), b")", b"C\x01b")
    return (
        made + pickles.tupled(pickles.number(1), shape, kind, b"\x89", b"B" + struct.pack("<I", len(raw)) + raw) + b"b"
    )


def _listed(values: list[float]) -> bytes:
    return b"](" + b"".join(map(_real, values)) + b"e"


def pca(**attributes: bytes) -> bytes:
    """An object of scikit-learn's PCA."""
    return pickles.called(_PCA) + pickles.mapping(attributes) + b"b"


def cirtorch(**changed: bytes) -> bytes:
    """A file of cnnimageretrieval-pytorch with other values for some settings, or for the whitening's P and m."""
    pair = {"P": _array(np.eye(3)), "m": _array(np.ones((3, 1)))} | {
        key: changed[key] for key in "Pm" if key in changed
    }
    meta = {"architecture": pickles.text("resnet50"), "pooling": pickles.text("gem"), "regional": b"\x89"}
    meta |= {"mean": _listed([0.5, 0.4, 0.3]), "std": _listed([0.2, 0.2, 0.2])}
    meta["Lw"] = pickles.mapping({"data": pickles.mapping({"ss": pickles.mapping(pair)})})
    return _file({"meta": pickles.mapping(meta | {key: value for key, value in changed.items() if key not in "Pm"})})


def dirtorch(**changed: bytes) -> bytes:
    """A file of deep-image-retrieval with other values for some attributes of its PCA, its options or its pixels."""
    known = {"components_": _array(np.eye(3)), "mean_": _array(np.ones(3)), "explained_variance_": _array(np.ones(3))}
    known |= {
        "whiten": b"\x88",
        **{key: value for key, value in changed.items() if key.endswith("_") or key == "whiten"},
    }
    options = {"arch": pickles.text("resnet50_rmac"), "pooling": pickles.text("gem"), "norm_features": b"\x89"}
    pixels = {"mean": _listed([0.5, 0.4, 0.3]), "std": _listed([0.2, 0.2, 0.2])}
    others = {key: value for key, value in changed.items() if key not in known}
    options |= {key: value for key, value in others.items() if key not in pixels}
    pixels |= {key: value for key, value in others.items() if key in pixels}
    return _file(
        {
            "model_options": pickles.mapping(options),
            "preprocess": pickles.mapping(pixels),
            "pca": pickles.mapping({"Landmarks_clean": pca(**known)}),
        }
    )


def _file(settings: dict[str, bytes]) -> bytes:
    tensors = {"state_dict": pickles.mapping({"layer1.0.bn1.running_mean": _array(np.ones(2))})}
    return pickles.program(pickles.mapping(tensors | settings))


_SOUND = (cirtorch(), dirtorch())
_SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)
_NUMBERS = st.sampled_from((0.0, -1.0, 1.0, 1e300, float("nan"), float("inf")))
_ARRAYS = st.builds(lambda shape, value: _array(np.full(shape, value)), _SHAPES, _NUMBERS)
_VALUES = st.one_of(
    _ARRAYS,
    _NUMBERS.map(_real),
    st.lists(_NUMBERS, max_size=4).map(_listed),
    st.sampled_from((b"N", b"\x88", b"]", b"}", pickles.number(10**400), pickles.text("mac"), pickles.nested(100))),
    st.sampled_from((pca(), pca(components_=b"N"), pickles.called("a.B"))),
)
_CIRTORCH = ("pooling", "regional", "local_whitening", "mean", "std", "Lw", "P", "m")
_DIRTORCH = (
    "pooling",
    "center_bias",
    "without_fc",
    "mean",
    "std",
    "components_",
    "mean_",
    "explained_variance_",
    "whiten",
)


def _changes(keys: tuple[str, ...]) -> st.SearchStrategy[dict[str, bytes]]:
    return st.dictionaries(st.sampled_from(keys), _VALUES, min_size=1, max_size=3)


def _read(path: Path) -> None:
    settings = read_contents(path).settings
    assert settings.pool in (None, "gem", "avg", "max")
    for key, found in settings.colours.items():
        assert len(three_numbers(found, key)) == 3
    for whitening in settings.whitenings.values():
        made = whitening()
        assert made.weight.dtype == made.bias.dtype == np.float32
        assert made.weight.ndim == 2 and made.bias.shape == made.weight.shape[:1]
        if path.read_bytes() in _SOUND:  # the components are an identity, the mean and the variances are 1
            np.testing.assert_allclose(made.weight, np.eye(3), rtol=1e-6)
            np.testing.assert_allclose(made.bias, [-1, -1, -1], rtol=1e-6)


READER = Reader(
    "settings of published networks",
    st.one_of(
        _changes(_CIRTORCH).map(lambda changed: cirtorch(**changed)),
        _changes(_DIRTORCH).map(lambda changed: dirtorch(**changed)),
    ),
    _read,
    place="weights.pth",
    messages={
        "colours_of_text": "a mean that is not three numbers below 256",
        "colours_of_digits": "a std that is not three numbers below 256",
        "whitening_of_a_vector": "a whitening of [3] with a mean of [3, 1]",
        "mean_of_another_length": "a whitening of [3, 3] with a mean of [5]",
        "variances_of_zero": "a PCA whose components and variances do not fit together",
        "components_missing": "a PCA without its components",
    },
)
SPECIMENS = {
    "sound_cirtorch": _SOUND[0],
    "sound_dirtorch": _SOUND[1],
    "sound_pooling_that_nobody_has": cirtorch(pooling=pickles.nested(50)),
    "colours_of_text": cirtorch(mean=pickles.text("0.5")),
    "colours_of_digits": dirtorch(std=b"](" + pickles.number(10**400) * 3 + b"e"),
    "whitening_of_a_vector": cirtorch(P=_array(np.ones(3))),
    "mean_of_another_length": dirtorch(mean_=_array(np.ones(5))),
    "variances_of_zero": dirtorch(explained_variance_=_array(np.zeros(3))),
    "components_missing": dirtorch(components_=b"N"),
}
