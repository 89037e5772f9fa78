"""The metrics compared with DELF's published values, edge cases, and the reading of the contest's files."""

import pytest

from retrieval.metrics import average_precision, mean_average_precision, mean_median_position, mean_precisions
from retrieval.recognition import global_average_precision
from retrieval.solution import (
    Recognition,
    RetrievalSolution,
    read_recognition_predictions,
    read_recognition_solution,
    read_retrieval_predictions,
    read_retrieval_solution,
)
from zoo.errors import DataError

# DELF's cases with short names: no prediction; right at rank 2; one of three found; right at rank 1, then wrong.
SOLUTION = {"q1": ["a", "b"], "q2": ["a"], "q3": ["c", "d", "e"], "q4": ["c"]}
PREDICTIONS = {"q2": ["x", "a"], "q3": ["d"], "q4": ["c", "d"]}
LANDMARKS = {"q1": [0, 12], "q2": [100, 200, 300], "q3": [1], "q4": [], "q5": []}
RECOGNISED = {"q2": Recognition(0, 0.01), "q3": Recognition(1, 10.0), "q4": Recognition(150, 15.0)}


def test_delf_values_of_map():
    assert mean_average_precision(PREDICTIONS, SOLUTION) == pytest.approx(0.458333, abs=1e-6)
    assert mean_average_precision(PREDICTIONS, SOLUTION, k=1) == pytest.approx(0.5)


def test_delf_values_of_precisions_and_positions():
    assert mean_precisions(PREDICTIONS, SOLUTION, k=2) == pytest.approx([0.5, 0.375])
    assert mean_median_position(PREDICTIONS, SOLUTION) == (26.25, 1.5)
    assert mean_median_position(PREDICTIONS, SOLUTION, k=1) == (1.5, 1.5)


def test_delf_values_of_gap():
    assert global_average_precision(RECOGNISED, LANDMARKS) == pytest.approx(0.166667, abs=1e-6)
    assert global_average_precision(RECOGNISED, LANDMARKS, ignore_empty=True) == pytest.approx(0.333333, abs=1e-6)


def test_a_duplicate_is_skipped_but_keeps_its_rank():
    assert average_precision(["a", "a", "b"], ["a", "b"]) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(["a", "b"], ["a", "b"]) == 1
    assert mean_precisions({"q": ["a", "a"]}, {"q": ["a"]}, k=2) == pytest.approx([1, 0.5])


def test_a_query_without_prediction_counts_zero():
    assert mean_average_precision({"q1": ["a"]}, {"q1": ["a"], "q2": ["b"]}) == 0.5
    assert mean_average_precision({}, {"q1": ["a"]}) == 0
    assert mean_median_position({}, {"q1": ["a"]}, k=7) == (8, 8)


def test_precision_goes_on_past_the_end_of_a_list():
    assert mean_precisions({"q": ["a"]}, {"q": ["a", "b"]}, k=4) == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])


def test_the_divisor_is_k_where_more_than_k_are_relevant():
    assert average_precision(["a", "b"], ["a", "b", "c"], k=2) == 1


@pytest.mark.parametrize("metric", [mean_average_precision, mean_precisions, mean_median_position])
def test_nothing_to_score_is_an_error(metric):
    with pytest.raises(DataError, match="no query"):
        metric({}, {})
    with pytest.raises(DataError, match="'q2' has no relevant image"):
        metric({"q1": ["a"]}, {"q1": ["a"], "q2": []})
    with pytest.raises(DataError, match="'q9' was predicted but is not in the solution"):
        metric({"q9": ["a"]}, {"q1": ["a"]})


def test_gap_ties_go_by_query_then_by_landmark():
    truth = {"a": [1], "b": [1]}
    assert global_average_precision({"b": (1, 2.0), "a": (9, 2.0)}, truth) == pytest.approx(0.5 / 2)
    assert global_average_precision({"b": (9, 2.0), "a": (1, 2.0)}, truth) == pytest.approx(1 / 2)


def test_gap_errors():
    with pytest.raises(DataError, match="no query with a landmark"):
        global_average_precision({}, {"q": []})
    with pytest.raises(DataError, match="'x'"):
        global_average_precision({"x": (1, 1.0)}, {"q": [1]})
    with pytest.raises(DataError, match="NaN"):
        global_average_precision({"q": (1, float("nan"))}, {"q": [1]})


@pytest.fixture
def table(tmp_path):
    def write(text: str):
        path = tmp_path / "table.csv"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_reads_a_retrieval_solution(table):
    solution = read_retrieval_solution(table("id,images,Usage\nq1,a b,Public\nq2,c,Private\nq3,None,Ignored\n"))
    assert solution == RetrievalSolution({"q1": ("a", "b")}, {"q2": ("c",)}, ["q3"])
    assert solution.everything == {"q1": ("a", "b"), "q2": ("c",)}


def test_reads_a_landmark_with_more_images_than_csv_allows_by_default(table):
    images = " ".join(f"{number:016x}" for number in range(9000))
    assert len(read_retrieval_solution(table(f"id,images,Usage\nq1,{images},Public\n")).public["q1"]) == 9000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r":1: expected the header 'id,images,Usage', found ''"),
        ("id,landmarks,Usage\n", r":1: expected the header"),
        ("id,images,Usage\nq1,a,Public\nq2,b,public\n", r":3: .*Public, Private or Ignored, found 'public'"),
        ("id,images,Usage\nq1,a,Public\nq1,b,Private\n", r":3: query 'q1' is repeated"),
        ("id,images,Usage\nq1,None,Ignored\nq1,b,Private\n", r":3: query 'q1' is repeated"),
        ("id,images,Usage\nq1,,Public\n", r":2: query 'q1': expected image ids"),
        ("id,images,Usage\nq1,a  b,Public\n", r":2: query 'q1': expected image ids"),
        ("id,images,Usage\nq1,a\n", r", line 2: expected 3 fields, found .2 in"),
    ],
)
def test_refuses_a_bad_retrieval_solution(table, text, message):
    with pytest.raises(DataError, match=message):
        read_retrieval_solution(table(text))


def test_a_missing_or_binary_file_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match=r"none\.csv does not exist"):
        read_retrieval_solution(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"binary\.csv is not a readable UTF-8 CSV file"):
        read_retrieval_solution(tmp_path / "binary.csv")


def test_reads_retrieval_predictions(table):
    solution = RetrievalSolution({"q1": ("a",)}, {"q2": ("b",), "q4": ("c",)}, ["q3"])
    found = read_retrieval_predictions(table("id,images\n\nq1,x a \nq3,z\nq2,b\nq4,\nq9,\n"), solution)
    assert found.public == {"q1": ("x", "a")}
    assert found.private == {"q2": ("b",)}
    assert found.everything == {"q1": ("x", "a"), "q2": ("b",)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q1,a\n", r":1: expected the header 'id,images'"),
        ("id,images\nq1,a\nq1,b\n", r":3: query 'q1' is repeated"),
        ("id,images\nq9,a\n", r":2: query 'q9' is not in the solution"),
        ("id,images\nq1\n", r", line 2: expected 2 fields, found .1 in"),
    ],
)
def test_refuses_bad_retrieval_predictions(table, text, message):
    with pytest.raises(DataError, match=message):
        read_retrieval_predictions(table(text), RetrievalSolution({"q1": ("a",)}, {}, []))


def test_reads_recognition_files(table):
    solution = read_recognition_solution(table("id,landmarks,Usage\nq1,3 4,Public\nq2,,Private\nq3,None,Ignored\n"))
    assert (solution.public, solution.private, solution.ignored) == ({"q1": (3, 4)}, {"q2": ()}, ["q3"])
    found = read_recognition_predictions(table("id,landmarks\nq1,3 0.5\nq2,7 1e-3 \n"), solution)
    assert found.everything == {"q1": Recognition(3, 0.5), "q2": Recognition(7, 0.001)}
    assert global_average_precision(found.everything, solution.everything) == 1


@pytest.mark.parametrize("cell", ["3", "3 0.5 4", "x 0.5", "3 high", "3 nan"])
def test_refuses_bad_recognition_predictions(table, cell):
    solution = read_recognition_solution(table("id,landmarks,Usage\nq1,3,Public\n"))
    with pytest.raises(DataError, match=r":2: query 'q1'"):
        read_recognition_predictions(table(f"id,landmarks\nq1,{cell}\n"), solution)


def test_refuses_a_landmark_that_is_no_number(table):
    with pytest.raises(DataError, match=r":2: query 'q1'"):
        read_recognition_solution(table("id,landmarks,Usage\nq1,tower,Public\n"))


@pytest.mark.parametrize("metric", [mean_average_precision, mean_precisions, mean_median_position])
def test_at_least_one_rank_is_scored(metric):
    with pytest.raises(DataError, match="at least 1 rank to score, found 0"):
        metric({"q": ("a",)}, {"q": ("a",)}, 0)
