"""From images to descriptors: the one loop that every runtime shares.

Threads decode and resize the next batches while the network computes the current one. What turns a batch into descriptors
is a `Describer`: a PyTorch or Paddle network, an ONNX file or a SavedModel.
"""

import argparse
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from tqdm import tqdm

from retrieval.data.fingerprint import fingerprint
from retrieval.data.gldv2 import SPLITS, Gldv2
from retrieval.data.images import decode, read_image
from retrieval.data.sources import ImageSource, open_source
from retrieval.embeddings import Embeddings, require_descriptors
from retrieval.parts import Parts
from zoo import checkpoint as checkpoints
from zoo.arguments import given_path, ranged
from zoo.checkpoint import Checkpoint, load_checkpoint
from zoo.command import log
from zoo.errors import DataError
from zoo.files import new_file, output_file
from zoo.preprocess import resize
from zoo.specs import PreprocessSpec
from zoo.strict import Count

BATCH_SIZE = 32
MOST_AT_ONCE = 4096
"""The largest batch; decoded images wait in memory until theirs is complete."""
BATCHES_AHEAD = 2
"""Batches that are decoded before they are needed: they hide decoding, and cost the memory of their pixels."""

Image = str | os.PathLike | np.ndarray | Callable[[], np.ndarray]
"""The path of an image file, or its pixels uint8 [H, W, 3], RGB, or what reads them."""


class Resized(NamedTuple):
    """How images are resized for a model: the side of the square in pixels, and the filter (`PreprocessSpec.resize`)."""

    size: int
    resize: str

    @classmethod
    def of(cls, spec: PreprocessSpec) -> "Resized":
        """What a spec asks for."""
        return cls(spec.size, spec.resize)


Batch = Mapping[Resized, np.ndarray]
"""The same N images for each way of resizing: float32 [N, size, size, 3], RGB, 0 to 255, not normalised."""


class Describer(Protocol):
    """Turns resized images into descriptors.

    Attributes:
        inputs: the ways of resizing that it needs: one, or several for an ensemble.
        source: JSON values for `Embeddings.source`: model, framework, size and, if known, the checkpoint's sha256.
    """

    @property
    def inputs(self) -> tuple[Resized, ...]: ...
    @property
    def source(self) -> dict: ...
    def __call__(self, batch: Batch) -> np.ndarray:
        """Descriptors float32 [N, D] of a batch that has all `inputs`."""
        ...


def describe(
    describer: Describer,
    images: Sequence[Image],
    *,
    batch_size: int = BATCH_SIZE,
    workers: int | None = None,
    progress: str | None = None,
) -> np.ndarray:
    """Descriptors of images, in their order.

    Args:
        describer: the model.
        images: paths, or arrays uint8 [H, W, 3].
        batch_size: images per call of the model.
        workers: threads that decode and resize; by default one per processor.
        progress: label of a progress bar on stderr; None shows none.

    Returns:
        float32 [number of images, D].

    Raises:
        DataError: there are no images, one of them is neither a path nor a uint8 RGB array, or a descriptor is not finite or
            all zeros; the message counts images from 0.
        UnreadableImageError: a file is missing or cannot be decoded.
    """
    if not len(images):
        raise DataError("there are no images to embed; expected at least one.")
    rows = []
    with tqdm(total=len(images), desc=progress, unit="image", disable=progress is None) as bar:
        for batch in batches(images, describer.inputs, batch_size, workers or os.cpu_count() or 1):
            count = sum(map(len, rows))
            rows.append(describer(batch))
            require_descriptors(rows[-1], range(count, len(images)))
            bar.update(len(rows[-1]))
    return np.concatenate(rows)


def batches(images: Sequence[Image], inputs: Sequence[Resized], batch_size: int, workers: int) -> Iterator[Batch]:
    """The images in resized batches; while the consumer works on one, threads prepare the next `BATCHES_AHEAD`."""
    if not 1 <= batch_size <= MOST_AT_ONCE:
        raise DataError(f"expected 1 to {MOST_AT_ONCE:,} images per batch, found {batch_size}")
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    ahead: deque[list[Future]] = deque()
    try:
        for start in range(0, len(images), batch_size):
            chosen = images[start : start + batch_size]
            ahead.append([pool.submit(_resized, image, inputs) for image in chosen])
            if len(ahead) > BATCHES_AHEAD:
                yield _stacked(ahead.popleft(), inputs)
        while ahead:
            yield _stacked(ahead.popleft(), inputs)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def embed_split(
    describer: Describer, data: Gldv2, split: str, out: str | os.PathLike, *, batch_size: int = BATCH_SIZE
) -> Embeddings:
    """Writes the embeddings of all readable images of a split, in the order of its table, and returns them.

    What is finished is kept beside `out` (`retrieval.parts`): the same command continues where an interrupted one stopped, and
    its result is the same to the bit.

    Args:
        describer: the model.
        data: the data set.
        split: "train", "index" or "test".
        out: the embeddings file.
        batch_size: images per call of the model.

    Raises:
        DataError: the split has no readable image, or a descriptor is not finite or all zeros.
        UnreadableImageError: an image cannot be decoded.
        OutputError: `out` cannot be written, which is found before the first image is read, or the disk has no room for
            all descriptors, which is found after the first batch.
    """
    out = Path(out)
    ids = data.readable_ids(split)
    if not ids:
        raise DataError(
            f"{data.table_path(split)} names {len(data.named_ids(split))} images, and none of them is readable; expected at "
            "least one. `python -m retrieval.data.check --data DIR` lists why."
        )
    found = fingerprint(data, split)
    source = describer.source | {"data": {"split": split, "fingerprint": found}}
    made_from = {"source": source, "batch": batch_size, "changed": fingerprint(data, split, times=True)}
    with Parts(out, ids, made_from) as parts:
        if parts.done:
            log(f"continuing after {parts.done:,} of {len(ids):,} images")
        images = _StoredImages(open_source(data, split), ids[parts.done :])
        with tqdm(total=len(ids), initial=parts.done, desc=f"embed {split}", unit="image") as bar:
            for batch in batches(images, describer.inputs, batch_size, os.cpu_count() or 1):
                parts.add(describer(batch))
                bar.update(parts.done - bar.n)
        embeddings = Embeddings(ids, parts.rows, source)
        embeddings.save(out)
    return embeddings


def checkpoint_source(checkpoint: Checkpoint, framework: str) -> dict:
    """`Describer.source` of a checkpoint that a framework computes."""
    size = checkpoint.spec.preprocess.size
    return {
        "model": checkpoint.spec.name,
        "framework": framework,
        "size": size,
        "checkpoint": checkpoints.fingerprint(checkpoint),
    }


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of every command that embeds a split: --split and --batch-size."""
    parser.add_argument("--split", choices=SPLITS, default="index", help="split of --data (default: index)")
    parser.add_argument("--batch-size", type=ranged(Count), default=BATCH_SIZE, help="images per batch, with --data")


def checkpoint_command(framework: str, describer: Callable[[Checkpoint], Describer]) -> None:
    """The command line of `torch_models.embed` and `paddle_models.embed`."""
    parser = argparse.ArgumentParser(
        description=f"""Descriptors of a checkpoint in {framework}: the reference that exports are compared with.

Example:
    python -m {framework}_models.embed --ckpt resnet50.safetensors --data DATA --split index --out index.safetensors""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--ckpt", required=True, type=given_path, help="a landmark-zoo checkpoint from either framework"
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--data", type=given_path, help="a data set in the Google Landmarks v2 layout")
    what.add_argument("--pixels", type=given_path, help="an npz of resized batches float32 [N, H, W, 3], RGB, 0 to 255")
    parser.add_argument(
        "--out", required=True, type=given_path, help="embeddings (.safetensors), or an npz with --pixels"
    )
    add_data_arguments(parser)
    arguments = parser.parse_args()
    data = Gldv2(arguments.data) if arguments.data else None
    read = [arguments.ckpt, *(data.files() if data else [arguments.pixels])]
    with output_file(arguments.out, read, around=[data.root] if data else []):
        model = describer(load_checkpoint(arguments.ckpt))
        if data:
            embed_split(model, data, arguments.split, arguments.out, batch_size=arguments.batch_size)
        else:
            describe_pixels(model, arguments.pixels, arguments.out)
    print(arguments.out)


def describe_pixels(describer: Describer, pixels: Path, out: Path) -> None:
    """Writes descriptors of an npz's batches, of any height and width, under the same names.

    Raises:
        DataError: the file is not an npz of batches float32 [N, H, W, 3].
        OutputError: `out` cannot be written.
    """
    (wanted,) = describer.inputs
    outputs = {name: describer({wanted: batch}) for name, batch in _read_batches(pixels)}
    with new_file(out) as partial, open(partial, "wb") as file:
        np.savez(file, **outputs)  # pyright: ignore[reportArgumentType]  # no array is named allow_pickle


def _read_batches(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of an npz by name; pickled ones are refused."""
    expected = "expected an npz of batches float32 [N, H, W, 3], RGB, 0 to 255"
    try:
        arrays = np.load(path, allow_pickle=False)
        names = list(arrays.files)
    except Exception as error:  # numpy and zipfile raise many kinds for broken bytes
        raise DataError(f"{path} cannot be read: {error}; {expected}") from error
    with arrays:
        for name in names:
            try:
                batch = arrays[name]
            except Exception as error:
                raise DataError(f"{path}: {name!r} cannot be read: {error}; {expected}") from error
            if batch.dtype != np.float32 or batch.ndim != 4 or batch.shape[3] != 3 or not batch.size:
                raise DataError(f"{path}: {name!r} is {batch.dtype} {list(batch.shape)}; {expected}")
            yield name, batch


class _StoredImages(Sequence[Callable[[], np.ndarray]]):
    """What reads the images of a data set, made when it is asked for: millions of ids take less memory than millions of paths."""

    def __init__(self, source: ImageSource, ids: Sequence[str]) -> None:
        self._source, self._ids = source, ids

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, chosen: Any) -> Any:
        if isinstance(chosen, int):
            return partial(self._read, self._ids[chosen])
        return [partial(self._read, image_id) for image_id in self._ids[chosen]]

    def _read(self, image_id: str) -> np.ndarray:
        return decode(self._source.read(image_id), self._source.place(image_id))


def _resized(image: Image, inputs: Sequence[Resized]) -> list[np.ndarray]:
    if callable(image):
        pixels = image()
    else:
        pixels = _checked(image) if isinstance(image, np.ndarray) else read_image(Path(image))
    return [resize(pixels, *wanted) for wanted in inputs]


def _checked(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise DataError(
            f"an image is {pixels.dtype} {list(pixels.shape)}; expected uint8 [height, width, 3], RGB. "
            "Pass a list of such arrays, or of paths."
        )
    return pixels


def _stacked(images: list[Future], inputs: Sequence[Resized]) -> Batch:
    columns = zip(*(image.result() for image in images), strict=True)
    return {wanted: np.stack(column) for wanted, column in zip(inputs, columns, strict=True)}
