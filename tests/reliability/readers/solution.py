"""Solutions and predictions of both of the contest's tracks (`retrieval.solution`)."""

from pathlib import Path

from hypothesis import strategies as st

from retrieval import solution
from retrieval.metrics import mean_average_precision
from retrieval.recognition import global_average_precision
from tests.reliability.mutations import damaged_folder
from tests.reliability.reader import Reader

_VALID = {
    "retrieval.csv": b"id,images,Usage\na,x y z,Public\nb,z,Private\nc,,Ignored\n",
    "recognition.csv": b"id,landmarks,Usage\na,1 22,Public\nb,,Private\nc,,Ignored\n",
    "retrieval predictions.csv": b"id,images\na,x q z\nb,y z \nc,\n",
    "recognition predictions.csv": b"id,landmarks\na,1 0.5\nb,7 -3e4\n",
}
_CELL = st.one_of(
    st.sampled_from(("", "a", "b", "x", "x y", "Public", "Private", "Ignored", "1 nan", "1 inf", "9" * 5000, "1e999")),
    st.text(max_size=6),
)
_ROWS = st.lists(st.lists(_CELL, min_size=2, max_size=3).map(",".join), max_size=6).map("\n".join)


def _rows(drawn: tuple[str, str]) -> dict[str, bytes]:
    name, rows = drawn
    header = _VALID[name].partition(b"\n")[0]
    return _VALID | {name: header + b"\n" + rows.encode("utf-8", "surrogatepass")}


def _read(folder: Path) -> None:
    truth = solution.read_retrieval_solution(folder / "retrieval.csv")
    found = solution.read_retrieval_predictions(folder / "retrieval predictions.csv", truth)
    assert 0 <= mean_average_precision(found.everything, truth.everything) <= 1
    landmarks = solution.read_recognition_solution(folder / "recognition.csv")
    guesses = solution.read_recognition_predictions(folder / "recognition predictions.csv", landmarks)
    assert 0 <= global_average_precision(guesses.everything, landmarks.everything) <= 1


READER = Reader(
    "solutions and predictions",
    st.one_of(damaged_folder(_VALID), st.tuples(st.sampled_from(sorted(_VALID)), _ROWS).map(_rows)),
    _read,
)
