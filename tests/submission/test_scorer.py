"""A packed submission in a real TensorFlow 2.2.0, called and ranked as the contest's scorer does."""

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from export import tf22
from submission import pack
from zoo.errors import ExportError, SubmissionError

INDEX_SIZE, QUERIES = 104, 3


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> dict[str, Path]:
    """Tiny JPEGs of different shapes in a/b folders, one of them grey; also a text file and a .png, which must be ignored."""
    generator, folders = np.random.default_rng(3), {}
    for split, count in (("test", QUERIES), ("index", INDEX_SIZE)):
        folders[split] = tmp_path_factory.mktemp(split)
        for number in range(count):
            folder = folders[split] / f"{number % 3}" / f"{number % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            height, width = generator.integers(9, 25, 2)
            ramp = np.linspace(generator.uniform(0, 255, 3), generator.uniform(0, 255, 3), width)
            pixels = np.clip(ramp[None] + generator.normal(0, 20, (height, width, 3)), 0, 255).astype(np.uint8)
            image = PIL.Image.fromarray(pixels)
            (image.convert("L") if number == 1 else image).save(folder / f"{split}{number:03d}.jpg", quality=92)
    (folders["test"] / "notes.txt").write_text("not an image")
    PIL.Image.new("RGB", (9, 9)).save(folders["index"] / "other.png")
    return folders


@pytest.fixture
def submission(tiny_saved_models, tmp_path) -> Path:
    return pack.pack(tiny_saved_models / "good", tmp_path / "upload", owner="someone", verified=False)


def test_predictions_are_those_of_numpy(submission, images, tf22_python, tiny_descriptor):
    scored = tf22.score(submission, images["test"], images["index"], python=tf22_python)
    vectors = {}
    for split, folder in images.items():
        paths = sorted(folder.rglob("*.jpg"))
        pixels = [np.array(PIL.Image.open(path).convert("RGB")) for path in paths]
        vectors[split] = {path.stem: tiny_descriptor(image) for path, image in zip(paths, pixels, strict=True)}
    index_ids, index = list(vectors["index"]), np.stack(list(vectors["index"].values()))

    assert scored["tensorflow"] == "2.2.0"
    assert scored["descriptor_size"] == 8
    assert scored["seconds_per_image"] > 0
    assert set(scored["predictions"]) == set(vectors["test"]) and len(index_ids) == INDEX_SIZE
    for query, vector in vectors["test"].items():
        distances = np.linalg.norm(index - vector, axis=1)
        order = np.argsort(distances)
        assert np.diff(distances[order]).min() > 2e-5, "the distances must not tie, or the order is meaningless"
        assert scored["predictions"][query] == [index_ids[i] for i in order[:100]]
        np.testing.assert_allclose(scored["distances"][query], distances[order[:100]], rtol=0, atol=1e-5)


def test_refuses_saved_model_in_a_nested_folder(tiny_saved_models, images, tf22_python, tmp_path):
    path = tmp_path / "submission.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in (tiny_saved_models / "good").rglob("*"):
            archive.write(file, Path("saved_model") / file.relative_to(tiny_saved_models / "good"))
    with pytest.raises(SubmissionError, match="saved_model.pb at the zip's root"):
        tf22.score(path, images["test"], images["index"], python=tf22_python)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("two_inputs", "expected one input"),
        ("misnamed_output", "expected output 'global_descriptor'"),
    ],
)
def test_refuses_what_the_contest_cannot_call(model, message, tiny_saved_models, images, tf22_python, tmp_path):
    path = tmp_path / "submission.zip"
    pack.write_zip(tiny_saved_models / model, path)
    with pytest.raises(SubmissionError, match=message):
        tf22.score(path, images["test"], images["index"], python=tf22_python)


def test_refuses_a_file_that_is_no_zip(images, tf22_python, tmp_path):
    path = tmp_path / "submission.zip"
    path.write_text(json.dumps({"not": "a zip"}))
    with pytest.raises(SubmissionError, match="is not a whole zip"):
        tf22.score(path, images["test"], images["index"], python=tf22_python)


def test_an_index_without_images_is_an_error(submission, images, tf22_python, tmp_path):
    empty = tmp_path / "empty"
    os.mkdir(empty)
    with pytest.raises(ExportError, match="found none"):
        tf22.score(submission, images["test"], empty, python=tf22_python)
