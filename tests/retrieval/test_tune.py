"""Parameters are chosen on training images that are left out, only if they are shown to help, and never by looking at a query."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from retrieval import tune as tuning
from retrieval.embeddings import Embeddings, squared_norms
from retrieval.expansion import Expansion
from retrieval.leave_one_out import Labelled, joined, sample
from retrieval.reciprocal import KReciprocal
from retrieval.rerank import NONE, Reranking, read_reranking
from retrieval.store import Selection
from retrieval.tune import tune, tune_files
from zoo.errors import DataError

SMALL = {
    "EXPANSIONS": (Expansion(3), Expansion(6)),
    "EXPANDED": (
        *(Reranking(expand_queries=Expansion(count)) for count in (3, 6)),
        Reranking(augment_database=Expansion(3)),
        Reranking(Expansion(3), Expansion(3)),
    ),
    "RECIPROCALS": (KReciprocal(6, 3, 0.3),),
    "RECIPROCAL": (Reranking(k_reciprocal=KReciprocal(6, 3, 0.3)),),
    "DIMENSIONS": (4, 8, 64),
}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for name, value in SMALL.items():
        monkeypatch.setattr(tuning, name, value)


def rows_of(values: np.ndarray) -> Selection:
    values = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
    return Selection([f"{row:016x}" for row in range(len(values))], values, squared_norms(values), {"model": "m"})


def landmarks(count: int, each: int, noise: float) -> Labelled:
    """Noisy images of landmarks; many dimensions, so that the mean of a few is a better image."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(count), each)
    return Labelled(
        rows_of(random.normal(size=(count, 48))[labels] + noise * random.normal(size=(len(labels), 48))), labels
    )


def test_each_image_is_left_out_once_and_searched_among_all_others_of_its_landmark():
    labels = np.array([5, 7, 5, 9, 7, 5, 11, 7])  # 9 and 11 have one image each
    images = Labelled(rows_of(np.random.default_rng(0).normal(size=(8, 4))), labels)
    plan = images.plan(100, seed=3)
    assert sorted(np.concatenate(plan).tolist()) == [0, 1, 2, 4, 5, 7]
    ids = np.array(images.rows.ids)
    for left_out in plan:
        assert len(set(labels[left_out])) == len(left_out)  # one image of a landmark
        part = images.round(left_out)
        assert sorted(part.index.ids) == sorted(set(ids) - set(ids[left_out]))
        assert list(part.queries.ids) == list(ids[left_out]) == list(part.truth)
        for row in left_out:
            others = {str(ids[other]) for other in np.flatnonzero(labels == labels[row]) if other != row}
            assert set(part.truth[str(ids[row])]) == others
        for side in (part.index, part.queries):
            np.testing.assert_array_equal(side.rows, images.rows.rows[[list(ids).index(one) for one in side.ids]])


def test_as_many_queries_as_are_wanted_and_a_seed():
    images = landmarks(10, 6, 1.0)
    assert [len(images.plan(wanted, 0)) for wanted in (1, 10, 11, 1000)] == [1, 1, 2, 6]
    first, again, other = (np.concatenate(images.plan(10, seed)).tolist() for seed in (0, 0, 1))
    assert first == again != other


def test_a_sample_has_whole_landmarks():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(20), 5))
    np.testing.assert_array_equal(sample(labels, 100, 0), np.arange(100))
    rows = sample(labels, 32, 0)
    assert len(rows) == 35 and len(set(labels[rows])) == 7
    assert not np.array_equal(rows, sample(labels, 32, 1))


def test_what_helps_is_chosen_with_its_figures():
    found = tune(landmarks(12, 8, 1.6))
    assert found != NONE and found.source == {"model": "m"}
    figures = found.tuning
    assert (figures["images"], figures["landmarks"], figures["queries"], figures["rounds"]) == (96, 12, 96, 8)
    assert len(figures["tried"]) == 4 + 1 + 3
    (chosen,) = (one for one in figures["tried"] if one["parameters"] == found.parts())
    assert chosen["difference"] == pytest.approx(chosen["map100"] - figures["map100"])
    assert chosen["interval"][0] > 0 and chosen["p"] < 0.01
    whitenings = figures["whitening"]["tried"]
    assert {one["parameters"]["dimensions"] for one in whitenings} == {4, 8}  # 64 are more than there are


def test_nothing_is_chosen_if_nothing_is_shown_to_help():
    """Labels that have nothing to do with the images: the best of several is better by luck only."""
    images = landmarks(12, 8, 1.6)
    found = tune(Labelled(images.rows, np.random.default_rng(0).permutation(images.labels)))
    assert found.parts() == NONE.parts()
    whitening = found.tuning["whitening"]
    assert whitening["chosen"] is None
    assert max(one["difference"] for one in (*found.tuning["tried"], *whitening["tried"])) > 0


def test_the_best_of_many_needs_a_smaller_p(monkeypatch):
    """Bonferroni: what would be shown if it were the only one is not, if it is the best of a thousand."""
    random = np.random.default_rng(0)
    plain = tuning.Tried(NONE, random.uniform(size=80))
    better = tuning.Tried(Reranking(expand_queries=Expansion(3)), plain.precisions + random.normal(0.03, 0.12, size=80))
    assert better.gain(plain).shown
    assert tuning._choose("re-ranking", [better], plain) is better
    assert tuning._choose("re-ranking", [better] + 100 * [plain], plain) is None


def test_the_mildest_of_equally_good_ones_is_chosen():
    """A little more on training landmarks is no reason for more neighbours; a clear gain is."""
    random = np.random.default_rng(0)
    plain = tuning.Tried(NONE, random.uniform(0.2, 0.5, size=200))

    def better(by: float, **parts: object) -> tuning.Tried:
        return tuning.Tried(replace(NONE, **parts), plain.precisions + random.normal(by, 0.1, size=200))

    mild = better(0.1, k_reciprocal=KReciprocal(5, 2, 0.5))
    more = [
        better(0.105, k_reciprocal=KReciprocal(5, 2, 0.3)),
        better(0.105, k_reciprocal=KReciprocal(20, 6, 0.5)),
        better(0.105, k_reciprocal=KReciprocal(5, 2, 0.5), expand_queries=Expansion(3)),
    ]
    assert tuning._choose("re-ranking", [*more, mild], plain) is mild
    assert tuning._choose("re-ranking", [*more, better(0.02, expand_queries=Expansion(3)), mild], plain) is mild
    clear = better(0.2, k_reciprocal=KReciprocal(20, 6, 0.3), expand_queries=Expansion(20))
    assert tuning._choose("re-ranking", [*more, clear, mild], plain) is clear


def test_landmarks_without_a_second_image_are_refused():
    with pytest.raises(DataError, match=r"no landmark has two images.*split train"):
        tune(Labelled(landmarks(12, 1, 1.0).rows, np.arange(12)))


def test_images_of_another_split_are_refused():
    rows = landmarks(3, 2, 1.0).rows
    with pytest.raises(DataError, match=f"1 of 6 images .*no landmark.*'{5:016x}'.*split train"):
        joined({f"{row:016x}": 0 for row in range(5)}, rows, 100, 0)


def test_unreadable_images_take_no_part():
    images = landmarks(3, 4, 1.0)
    images.rows.squared_norms[[1, 7]] = np.inf
    found = joined(dict(zip(images.rows.ids, images.labels.tolist(), strict=True)), images.rows, 100, 0)
    assert len(found.labels) == 10 and images.rows.ids[1] not in found.rows.ids


def test_a_file_is_written_for_the_search(tmp_path: Path, capsys):
    images = landmarks(6, 6, 1.2)
    (tmp_path / "data").mkdir()
    table = "".join(f"{name},,{label}\n" for name, label in zip(images.rows.ids, images.labels, strict=True))
    (tmp_path / "data" / "train.csv").write_text("id,url,landmark_id\n" + table, encoding="utf-8")
    Embeddings(tuple(images.rows.ids), images.rows.rows, {"model": "m"}).save(tmp_path / "train.safetensors")
    out = tmp_path / "rerank.json"
    found = tune_files(tmp_path / "train.safetensors", tmp_path / "data", out, queries=12)
    assert read_reranking(out) == found
    assert json.loads(out.read_text())["tuning"]["queries"] == 12
    assert "best re-ranking of 8" in capsys.readouterr().err
