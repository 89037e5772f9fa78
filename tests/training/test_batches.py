"""Batches are a function of seed, epoch and position: whole, resumed, or shared by several processes; damage is bounded."""

import gc
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from retrieval.data.gldv2 import Gldv2, TrainSet
from retrieval.data.images import read_image
from tests.retrieval.data.tars import as_tars
from training import batches as module
from training.augment import augment, random_box
from training.batches import TrainingImages, batches_per_epoch
from training.recipes import Augmentation
from zoo.errors import DataError

LANDMARKS = (900, 7, 7, 52, 900, 7, 52, 52, 900, 7, 7)
AUGMENTATION = Augmentation(crop_area=(0.3, 1.0), flip=True, jitter=0.3)
SIZE = 24


def image_id(number: int) -> str:
    return f"{int(number) * 0x9E3779B97F4A7C15 % 2**64:016x}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """11 training images of 3 landmarks, each of one colour that tells its number."""
    write_set(tmp_path, LANDMARKS)
    return tmp_path


def write_set(root: Path, landmarks: tuple[int, ...]) -> None:
    dataset = Gldv2(root)
    rows = "".join(f"{image_id(number)},x,{landmark}\n" for number, landmark in enumerate(landmarks))
    (root / "train.csv").write_text("id,url,landmark_id\n" + rows, encoding="utf-8")
    for number in range(len(landmarks)):
        path = dataset.image_path("train", image_id(number))
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(number)
        small = Image.fromarray(rng.integers(0, 256, (6, 5, 3), np.uint8))
        small.resize((60 + number, 48), Image.Resampling.BICUBIC).save(path, quality=95)


def images(root: Path, **changed: Any) -> TrainingImages:
    dataset = Gldv2(root)
    settings = {"batch_size": 4, "seed": 5, "augmentation": AUGMENTATION} | changed
    return TrainingImages(dataset, dataset.train(), **settings)


def path_of(root: Path, number: int) -> Path:
    return Gldv2(root).image_path("train", image_id(number))


def numbers_in(files: list[str]) -> list[int]:
    of_id = {image_id(number): number for number in range(100)}
    return [of_id[Path(file).stem] for file in files]


def require_equal(found: list[module.Batch], expected: list[module.Batch]) -> None:
    assert len(found) == len(expected)
    for (crops, labels), (expected_crops, expected_labels) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(crops, expected_crops)
        np.testing.assert_array_equal(labels, expected_labels)


def test_a_batch_is_what_its_seed_epoch_and_positions_say(root):
    """Written out: the order and the random numbers of checkpoints that were trained before."""
    size, train = 64, Gldv2(root).train()  # larger than every crop, so that nothing is decoded at less than full size
    for number, (crops, labels) in enumerate(images(root).batches(3, size)):
        order = np.random.default_rng(np.random.SeedSequence(5, spawn_key=(3,))).permutation(11)
        assert crops.shape == (4, size, size, 3) and crops.dtype == np.uint8 and labels.dtype == np.int64
        for row, position in enumerate(range(4 * number, 4 * number + 4)):
            rng = np.random.default_rng(np.random.SeedSequence(5, spawn_key=(3, position)))
            image = Image.fromarray(read_image(path_of(root, order[position])))
            box = random_box(*image.size, rng, (0.3, 1.0))
            crop = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box))
            np.testing.assert_array_equal(crops[row], augment(crop, rng, flip=True, jitter=0.3))
            assert labels[row] == train.labels[order[position]]


@pytest.mark.parametrize("sampling", ["images", "classes"])
def test_a_resumed_epoch_sees_the_same_bytes_whatever_the_number_of_threads(root, sampling):
    whole = list(images(root, sampling=sampling, workers=4).batches(3, SIZE))
    assert len(whole) == images(root).batches_per_epoch == 2
    for start in range(3):
        require_equal(list(images(root, sampling=sampling, workers=1).batches(3, SIZE, start)), whole[start:])


@pytest.mark.parametrize("sampling", ["images", "classes"])
@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_the_shares_of_several_processes_are_the_batch_of_one(root, processes, sampling):
    """With a damaged image too, which every process replaces in the same way."""
    path_of(root, 6).write_bytes(b"damaged")
    one = list(images(root, batch_size=6 if processes == 3 else 4, sampling=sampling).batches(1, SIZE))
    shares = [
        images(root, batch_size=6 if processes == 3 else 4, sampling=sampling, rank=rank, processes=processes)
        for rank in range(processes)
    ]
    parts = [list(share.batches(1, SIZE)) for share in shares]
    joined = [
        (np.concatenate([crops for crops, _ in ranks]), np.concatenate([labels for _, labels in ranks]))
        for ranks in zip(*parts, strict=True)
    ]
    require_equal(joined, one)
    assert shares[0].files(1, 0) == shares[-1].files(1, 0) or processes > 1


def test_a_batch_that_cannot_be_shared_equally_is_refused(root):
    with pytest.raises(DataError, match="batch_size is 4, and 3 processes share a batch; expected a multiple of 3"):
        images(root, processes=3)


def test_epochs_and_seeds_differ(root):
    def first(epoch: int = 0, **changed: Any) -> np.ndarray:
        return next(images(root, **changed).batches(epoch, SIZE))[0]

    for sampling in ("images", "classes"):
        assert not np.array_equal(first(sampling=sampling), first(1, sampling=sampling))
        assert not np.array_equal(first(sampling=sampling), first(seed=6, sampling=sampling))
    assert not np.array_equal(first(1, seed=0), first(0, seed=1))


def test_an_epoch_longer_than_the_prefetch_comes_in_order_and_once(root):
    single = list(images(root, batch_size=1).batches(0, SIZE))
    assert len(single) == 11
    joined = np.concatenate([crops for crops, _ in single]), np.concatenate([labels for _, labels in single])
    require_equal([joined], list(images(root, batch_size=11).batches(0, SIZE)))
    assert sorted(joined[1]) == sorted(Gldv2(root).train().labels)


def test_all_that_an_augmentation_has_is_applied(root):
    @dataclass(frozen=True)
    class Lit(Augmentation):
        lighting: float = 0.5

    lit = Lit(crop_area=(0.3, 1.0), flip=True, jitter=0.3)
    crops, _ = next(images(root, augmentation=lit).batches(0, SIZE))
    assert not np.array_equal(crops, next(images(root).batches(0, SIZE))[0])


def test_a_set_smaller_than_a_batch_and_a_start_outside_the_epoch_are_errors(root):
    with pytest.raises(DataError, match="11 readable images; expected at least batch_size, 12"):
        images(root, batch_size=12)
    for start in (-1, 3):
        with pytest.raises(DataError, match=f"batch {start} was requested, but the epoch has 2 batches of 4"):
            images(root).batches(0, SIZE, start)
    with pytest.raises(DataError, match="0 readable images"):
        batches_per_epoch(TrainSet((), np.zeros(0, np.int64), ()), 1)


def test_batches_from_tars_are_those_of_the_files(root, tmp_path_factory):
    other = as_tars(root, tmp_path_factory.mktemp("data") / "tars")
    require_equal(list(images(other).batches(2, SIZE)), list(images(root).batches(2, SIZE)))
    assert all("images_000.tar:train/" in place for place in images(other).files(2, 0))


def test_the_files_of_a_batch_are_named(root):
    found = images(root)
    order = np.random.default_rng(np.random.SeedSequence(5, spawn_key=(2,))).permutation(11)
    assert found.files(2, 1) == [str(path_of(root, number)) for number in order[4:8]]
    assert images(root, rank=1, processes=2).files(2, 1) == found.files(2, 1), "those of all processes"


@pytest.mark.parametrize("damage", ["missing", "no image", "cut off"])
def test_a_damaged_image_is_replaced_by_the_next_of_the_epoch(root, damage, capsys):
    order = np.random.default_rng(np.random.SeedSequence(5, spawn_key=(0,))).permutation(11)
    whole = list(images(root, batch_size=1).batches(0, 64))
    for number in order[[4, 5, 10]]:  # two in a row, and the last one, whose next is the first
        path, data = path_of(root, number), path_of(root, number).read_bytes()
        path.unlink() if damage == "missing" else path.write_bytes(b"no" if damage == "no image" else data[:-200])
    found = images(root, batch_size=1)
    damaged = list(found.batches(0, 64))
    for position, (crops, labels) in enumerate(damaged):
        taken = {4: 6, 5: 6, 10: 0}.get(position, position)
        assert labels[0] == whole[taken][1][0]
        assert np.array_equal(crops, whole[position][0]) == (taken == position)
        assert found.files(0, position) == [str(path_of(root, order[taken]))]
    assert set(found.damaged) == {str(path_of(root, number)) for number in order[[4, 5, 10]]}
    require_equal(list(images(root, batch_size=1, workers=3).batches(0, 64)), damaged)
    capsys.readouterr()
    list(found.batches(1, 64))
    assert "takes its place" not in capsys.readouterr().err, "each is logged once"


def test_too_many_damaged_images_stop_the_training(root, monkeypatch):
    monkeypatch.setattr(module, "DAMAGED_COUNT", 2)
    for number in (1, 2):
        path_of(root, number).unlink()
    assert len(list(images(root, batch_size=1).batches(0, SIZE))) == 11
    path_of(root, 3).unlink()
    with pytest.raises(DataError, match=r"3 of 11 training images cannot be read.*no such file.*data\.check --data"):
        list(images(root, batch_size=1).batches(0, SIZE))
    assert wait_until_no_loader()


def test_a_set_without_a_readable_image_ends(root):
    for number in range(11):
        path_of(root, number).unlink()
    with pytest.raises(DataError, match="11 of 11 training images cannot be read"):
        next(images(root).batches(0, SIZE))


def test_classes_are_seen_equally_often_and_their_images_in_rotation(root):
    """Landmark 7 has five images, 52 and 900 have three."""
    found = images(root, batch_size=1, sampling="classes")
    labels = Gldv2(root).train().labels
    seen: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for epoch in range(12):
        numbers = numbers_in([found.files(epoch, batch)[0] for batch in range(11)])
        counts = np.bincount(labels[numbers])
        assert counts.max() - counts.min() <= 1
        for number in numbers:
            seen[labels[number]].append(number)
        drawn = [batch_labels[0] for _, batch_labels in found.batches(epoch, 8)]
        assert drawn == labels[numbers].tolist()
        lengths = [len(numbers) for numbers in seen.values()]
        assert max(lengths) - min(lengths) <= 1, "over all epochs too"
    for label, numbers in seen.items():
        own = np.flatnonzero(labels == label)
        for start in range(0, len(numbers) - len(own), len(own)):
            assert set(numbers[start : start + len(own)]) == set(own), "every image once before one comes again"
    assert len({tuple(numbers_in([found.files(epoch, batch)[0] for batch in range(11)])) for epoch in range(6)}) == 6


def test_classes_without_a_readable_image_are_left_out(root):
    ids = [image_id(number) for number, landmark in enumerate(LANDMARKS) if landmark == 52]
    rows = "".join(f"train,{name},x\n" for name in ids)
    (root / "unreadable.csv").write_text("split,id,reason\n" + rows, encoding="utf-8")
    labels = np.concatenate([labels for _, labels in images(root, sampling="classes").batches(0, 8)])
    assert sorted(np.bincount(labels)) == [0, 4, 4]


def test_a_balanced_order_of_millions_is_quick():
    rng = np.random.default_rng(0)
    labels = rng.choice(20_000, 400_000, p=(weights := rng.pareto(1, 20_000) + 1) / weights.sum())
    began = time.monotonic()
    rotation = module._Rotation(labels, rng)
    order = rotation.order(7, 399_999, rng)
    assert time.monotonic() - began < 2
    present = np.unique(labels)
    assert np.ptp(np.bincount(labels[order])[present]) <= 1


def loaders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("training-batches")]


def wait_until_no_loader() -> bool:
    deadline = time.monotonic() + 10
    while loaders() and time.monotonic() < deadline:
        time.sleep(0.01)
    return not loaders()


@pytest.mark.parametrize("taken", [0, 1])
def test_an_abandoned_iterator_leaves_no_thread(root, taken):
    found = images(root, batch_size=1).batches(0, SIZE)
    for _ in range(taken):
        next(found)
        assert loaders()
    del found
    gc.collect()
    assert wait_until_no_loader()


def test_only_a_few_batches_are_decoded_ahead(root, monkeypatch):
    read, source = [], images(root, batch_size=1)
    fetch = source._source.read
    monkeypatch.setattr(source._source, "read", lambda name: read.append(name) or fetch(name), raising=False)
    found = source.batches(0, SIZE)
    next(found)
    time.sleep(0.3)
    assert len(read) <= module.PREFETCHED_BATCHES + 1
