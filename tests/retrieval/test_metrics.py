"""The metrics compared with DELF's published values and with slow code that follows the formulas literally; edge cases."""

import random
import statistics

import numpy as np
import pytest

from retrieval.comparison import bootstrap_interval
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


def oracle(predictions, solution, k):
    """AP, P@1 … P@K and first positions by definition, with sets and slices instead of running sums."""
    ap, precision, position = [], [], []
    for query, truth in solution.items():
        hits = predictions.get(query, [])[:k]
        fresh = [hit in truth and hit not in hits[:rank] for rank, hit in enumerate(hits)]
        ap.append(sum(sum(fresh[: r + 1]) / (r + 1) for r in range(len(hits)) if fresh[r]) / min(len(truth), k))
        precision.append([sum(fresh[: r + 1]) / (r + 1) for r in range(k)])
        position.append(next((r + 1 for r, hit in enumerate(hits) if hit in truth), k + 1))
    return (
        statistics.mean(ap),
        [statistics.mean(column) for column in zip(*precision, strict=True)],
        (statistics.mean(position), statistics.median(position)),
    )


@pytest.mark.parametrize("seed", range(25))
def test_against_the_oracle(seed):
    chance = random.Random(seed)
    images = [f"i{number}" for number in range(15)]
    solution = {f"q{number}": chance.sample(images, chance.randint(1, 8)) for number in range(chance.randint(1, 12))}
    predictions = {
        query: chance.choices(images, k=chance.randint(0, 20)) for query in solution if chance.random() < 0.8
    }
    k = chance.choice([1, 3, 10, 100])
    expected_map, expected_precisions, expected_positions = oracle(predictions, solution, k)
    assert mean_average_precision(predictions, solution, k) == pytest.approx(expected_map, abs=1e-12)
    assert mean_precisions(predictions, solution, k) == pytest.approx(expected_precisions, abs=1e-12)
    assert mean_median_position(predictions, solution, k) == pytest.approx(expected_positions)


@pytest.mark.parametrize("seed", range(10))
def test_gap_against_the_oracle(seed):
    chance = random.Random(seed)
    solution = {f"q{number}": chance.sample(range(4), chance.randint(0, 3)) for number in range(20)} | {"q": [1]}
    predictions = {query: (chance.randrange(4), chance.randrange(5)) for query in solution if chance.random() < 0.8}
    ordered = sorted(predictions, key=lambda query: (-predictions[query][1], query))
    right = [predictions[query][0] in solution[query] for query in ordered]
    expected = sum(sum(right[: r + 1]) / (r + 1) for r in range(len(right)) if right[r])
    expected /= sum(1 for truth in solution.values() if truth)
    assert global_average_precision(predictions, solution) == pytest.approx(expected, abs=1e-12)


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


def test_a_bootstrap_interval_covers_the_mean_and_narrows_with_more_queries():
    values = np.random.default_rng(0).uniform(size=400)
    low, high = bootstrap_interval(values)
    assert low < values.mean() < high
    assert bootstrap_interval(values) == (low, high)
    # The normal approximation: 1.96 standard errors on either side.
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.1)
    few_low, few_high = bootstrap_interval(values[:25])
    assert few_high - few_low > 2 * (high - low)
    assert bootstrap_interval([0.5] * 9) == (0.5, 0.5)
    with pytest.raises(DataError, match="no scored queries"):
        bootstrap_interval([])


@pytest.mark.parametrize("metric", [mean_average_precision, mean_precisions, mean_median_position])
def test_at_least_one_rank_is_scored(metric):
    with pytest.raises(DataError, match="at least 1 rank to score, found 0"):
        metric({"q": ("a",)}, {"q": ("a",)}, 0)
