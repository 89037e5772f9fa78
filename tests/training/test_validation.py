"""mAP@100 during training is the metric of `retrieval.metrics`, on classes that are held out."""

import numpy as np
import pytest

from retrieval.data.gldv2 import TrainSet
from retrieval.data.images import UnreadableImageError
from retrieval.metrics import mean_average_precision
from training.validation import ValidationSet, mean_average_precision_of_classes
from zoo.errors import RecipeError
from zoo.specs import PreprocessSpec


def test_it_is_the_contest_s_metric():
    random = np.random.default_rng(0)
    labels = random.integers(0, 12, 300)
    descriptors = random.normal(size=(300, 8)) + 3 * np.eye(12, 8)[labels]
    predictions, solution = {}, {}
    for query in range(300):
        distances = ((descriptors - descriptors[query]) ** 2).sum(axis=1)
        distances[query] = np.inf
        predictions[str(query)] = [str(found) for found in np.argsort(distances)[:100]]
        solution[str(query)] = [str(n) for n in np.flatnonzero(labels == labels[query]) if n != query]
    found = mean_average_precision_of_classes(descriptors, labels)
    assert found == pytest.approx(mean_average_precision(predictions, solution), abs=1e-12)
    assert 0.1 < found < 0.9


def held_out(counts: tuple[int, ...]) -> TrainSet:
    labels = np.repeat(np.arange(len(counts)), counts)
    ids = tuple(f"{number:016x}" for number in range(len(labels)))
    return TrainSet(ids, labels, tuple(range(len(counts))))


def test_whole_classes_are_taken_up_to_the_limit():
    assert len(ValidationSet(held_out((3, 1, 4, 5)), 7, lambda image_id: np.zeros((1, 1, 3))).ids) == 7
    assert len(ValidationSet(held_out((3, 1, 4, 5)), 2, lambda image_id: np.zeros((1, 1, 3))).ids) == 3
    with pytest.raises(RecipeError, match="no class with at least 2 images"):
        ValidationSet(held_out((1, 1)), 10, lambda image_id: np.zeros((1, 1, 3)))


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_any_number_of_processes_gives_the_same_score(processes):
    def read(image_id: str) -> np.ndarray:
        number = int(image_id, 16)
        if number == 4:
            raise UnreadableImageError("a.jpg", "cut off")
        return np.full((5, 4, 3), 20 * (number // 3) + number % 3, np.uint8)

    chosen = ValidationSet(held_out((3, 3, 3)), 100, read)
    spec = PreprocessSpec(size=32)

    def embed(images: np.ndarray) -> np.ndarray:
        return images[:, :, 0, 0]

    parts = [chosen.embed(embed, spec, rank, processes) for rank in range(processes)]
    whole = ValidationSet(held_out((3, 3, 3)), 100, read)
    assert chosen.score(parts) == whole.score([whole.embed(embed, spec)])
    assert chosen.score(parts) < 1, "an image that cannot be read is found by nothing"
