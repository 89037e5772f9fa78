"""Descriptors of different models are not compared, and those of one model in two runtimes are."""

import numpy as np
import pytest

from retrieval.embeddings import Embeddings
from retrieval.provenance import difference
from retrieval.search import search
from zoo.errors import DataError

SOURCE = {"model": "resnet50", "framework": "torch", "size": 224, "checkpoint": "a" * 64, "combined": {"flip": True}}


@pytest.mark.parametrize(
    "changed",
    [{"checkpoint": "b" * 64}, {"size": 448}, {"combined": {"flip": False}}, {"model": "resnet18", "checkpoint": None}],
)
def test_sets_of_different_models_are_refused(changed):
    sides = [
        Embeddings((f"{number:016x}",), np.ones((1, 4), np.float32), source)
        for number, source in enumerate((SOURCE, SOURCE | changed))
    ]
    with pytest.raises(DataError, match="the index and the queries are of different models"):
        search(*sides)
    members = [{"members": [SOURCE, source]} for source in (SOURCE, SOURCE | changed)]
    assert difference(*members)
    assert difference({"members": [SOURCE]}, {"members": [SOURCE] * 2}) == "1 models and 2"


@pytest.mark.parametrize(
    "changed", [{"framework": "tensorflow"}, {"model": "renamed"}, {"checkpoint": None}, {"data": {"split": "test"}}]
)
def test_one_model_in_another_runtime_is_accepted(changed):
    assert difference(SOURCE, SOURCE | changed) is None
    assert difference(SOURCE | changed, SOURCE) is None
    assert difference(SOURCE, {}) is None


def test_one_network_is_not_an_ensemble_and_one_member_is_its_network():
    assert difference({"members": [SOURCE] * 2}, SOURCE) == "2 models and 1"
    assert difference({"members": [SOURCE]}, SOURCE) is None
    assert difference({"members": [SOURCE] * 2}, {}) is None


def test_a_difference_names_the_models():
    found = difference(SOURCE, SOURCE | {"model": "resnet18", "checkpoint": "b" * 64})
    assert found == f"resnet50 with checkpoint {'a' * 12} and resnet18 with checkpoint {'b' * 12}"
    two = SOURCE | {"checkpoint": f"{'a' * 64} + {'c' * 64}"}
    assert difference(SOURCE, two) == "1 networks and 2"
    third = SOURCE | {"checkpoint": f"{'a' * 64} + {'d' * 64}"}
    assert difference(two, third) == f"resnet50 with checkpoint {'c' * 12} and resnet50 with checkpoint {'d' * 12}"
    found = difference(SOURCE, SOURCE | {"combined": {"flip": False}})
    assert found == "resnet50 with flip True and resnet50 with flip False"


PLAIN = {"scales": [1.0], "flip": False, "norm": "constant", "whitening_sha256": None, "weights": [1.0]}


@pytest.mark.parametrize("changed", [{}, {"scales": [0.7, 1.0]}, {"flip": True}, {"whitening_sha256": "c" * 64}])
def test_a_network_is_an_ensemble_of_one_unless_more_is_done(changed):
    network = {"model": "m", "checkpoint": "a" * 64}
    ensemble = network | {"combined": PLAIN | changed}
    for pair in ((network, ensemble), (ensemble, network)):
        assert (difference(*pair) is None) == (not changed)
    assert difference({"model": "m"}, ensemble) is None


@pytest.mark.parametrize(
    "hostile", [{"members": [1, "a"]}, {"members": []}, {"model": [[]], "size": {}}, {"members": {}}]
)
def test_a_source_from_a_stranger_is_only_compared(hostile):
    for pair in ((hostile, SOURCE), (SOURCE, hostile), (hostile, hostile)):
        difference(*pair)
