"""Fills a store with the descriptors of a split: threads decode and resize the next batches while the network computes one."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from retrieval.data.fingerprint import fingerprints
from retrieval.data.gldv2 import Gldv2
from retrieval.data.sources import open_source
from retrieval.describer import Describer
from retrieval.image_batches import (
    BATCH_SIZE,
    ChosenImages,
    Image,
    StoredImages,
    batches,
    one_blas_thread,
    require_batch_size,
)
from retrieval.shard import WHOLE, Shard
from retrieval.solution import read_retrieval_solution
from retrieval.store import UNREADABLE, Dtype, Store, StoreManifest, finished_chunks, read_ids, read_manifest
from retrieval.store_writer import ChunkWriter, complete, make_store
from zoo.command import log
from zoo.errors import DataError
from zoo.manifest import versions

BATCHES_PER_CHUNK = 8
"""A chunk of a store is finished, flushed and logged as a whole: what a killed process loses at most."""


def embed_split(
    describer: Describer,
    data: Gldv2,
    split: str,
    out: str | os.PathLike,
    *,
    batch_size: int = BATCH_SIZE,
    dtype: Dtype = "float16",
    shard: Shard = WHOLE,
    only_scored: bool = False,
    overwrite: bool = False,
) -> Store | None:
    """Writes the descriptors of a split into a store, in the order of its table, and returns it.

    The same command continues an interrupted store, and its rows are the same to the bit. Several processes may fill a store together,
    each with a shard of its own. Images that cannot be read are listed in the store and are infinitely far from everything.

    Args:
        describer: the model.
        data: the data set.
        split: "train", "index" or "test".
        out: the store's folder.
        batch_size: images per call of the model.
        dtype: of the stored descriptors.
        shard: which chunks this process computes: c, if c mod parts is its number.
        only_scored: of "test", only the queries that the solution scores: about a hundredth of GLDv2's.
        overwrite: replace a store of something else.

    Returns:
        The finished store; None if other shards are still to be done.

    Raises:
        DataError: the split has no image, none of a chunk's images can be read, or a descriptor is not finite, all zeros, or too
            large for `dtype`.
        OutputError: `out` holds something else, cannot be written, or the disk has no room for all descriptors.
    """
    out = Path(out)
    manifest = prepare_store(
        describer,
        data,
        split,
        out,
        batch_size=batch_size,
        dtype=dtype,
        only_scored=only_scored,
        overwrite=overwrite,
    )
    own = range(shard.number, manifest.chunks, shard.parts)
    left = unfinished(out, manifest, own)
    if left:
        label = f"embed {split}" + (f" {shard}" if shard.parts > 1 else "")
        ids = read_ids(out)
        images = StoredImages(open_source(data, split), ids)
        with (
            ChunkWriter(out, f"{shard.number}-of-{shard.parts}") as writer,
            progress_bar(manifest, own, left, label) as bar,
        ):
            embed_chunks(describer, images, ids, writer, left, bar.update)
    return finished_store(out)


def prepare_store(
    describer: Describer,
    data: Gldv2,
    split: str,
    out: Path,
    *,
    batch_size: int = BATCH_SIZE,
    dtype: Dtype = "float16",
    only_scored: bool = False,
    overwrite: bool = False,
) -> StoreManifest:
    """Makes the files of a split's store, or finds them. Arguments and errors as `embed_split`."""
    require_batch_size(batch_size)
    found, with_times = fingerprints(data, split)
    return make_store(
        out,
        images_to_embed(data, split, only_scored=only_scored),
        _length(describer),
        describer.source | {"data": {"split": split, "fingerprint": found}},
        with_times,
        batch=batch_size,
        chunk=batch_size * BATCHES_PER_CHUNK,
        dtype=dtype,
        versions=versions("landmark-zoo", "numpy", "pillow"),
        overwrite=overwrite,
    )


def unfinished(out: Path, manifest: StoreManifest, chunks: Iterable[int]) -> list[int]:
    """Those of some chunks of a store that are not finished."""
    done = finished_chunks(out, manifest)
    return [chunk for chunk in chunks if chunk not in done]


def progress_bar(manifest: StoreManifest, chunks: Iterable[int], left: Iterable[int], label: str) -> tqdm:
    """Images a second and the time left, on stderr; what an earlier run finished counts as done."""
    total, rest = (sum(len(manifest.rows_of(chunk)) for chunk in some) for some in (chunks, left))
    if rest < total:
        log(f"continuing after {total - rest:,} of {total:,} images")
    return tqdm(total=total, initial=total - rest, desc=label, unit="image")


def images_to_embed(data: Gldv2, split: str, *, only_scored: bool = False) -> tuple[str, ...]:
    """The ids of a split that get a row, in the order of its table.

    Raises:
        DataError: there are none.
    """
    ids = data.readable_ids(split)
    if not ids:
        raise DataError(
            f"{data.table_path(split)} names {len(data.named_ids(split))} images, and none of them is readable; expected at "
            "least one. `python -m retrieval.data.check --data DIR` lists why."
        )
    if not only_scored:
        return ids
    scored = read_retrieval_solution(data.solution_path).everything
    kept = tuple(image_id for image_id in ids if image_id in scored)
    if split != "test" or not kept:
        raise DataError(
            f"{data.solution_path} scores none of the images of {data.table_path(split)}; expected queries. --only-scored is for "
            "--split test."
        )
    return kept


def embed_chunks(
    describer: Describer,
    images: Sequence[Image],
    ids: Sequence[str],
    writer: ChunkWriter,
    chunks: Sequence[int],
    progress: Callable[[int], object] = lambda _: None,
) -> None:
    """Computes chunks of a store and writes them. What a cluster's workers and a single process both call.

    Args:
        describer: the model.
        images: of all rows of the store.
        ids: theirs.
        writer: of the store.
        chunks: numbers of chunks, ascending.
        progress: is called with the number of images of each finished batch.

    Raises:
        DataError, OutputError: as `embed_split`.
    """
    manifest = writer.manifest
    rows = [row for chunk in chunks for row in manifest.rows_of(chunk)]
    unreadable: dict[int, str] = {}
    # Chunks are whole batches, except for the last one of the store: a batch never holds rows of two chunks.
    ready = batches(ChosenImages(images, rows), describer.inputs, manifest.batch, os.cpu_count() or 1, unreadable)
    place = 0
    with one_blas_thread():
        for chunk in chunks:
            span, missing = manifest.rows_of(chunk), {}
            for first in range(span.start, span.stop, manifest.batch):
                described = describer(next(ready))
                names = ids[first : first + len(described)]
                readable = np.array([place + number not in unreadable for number in range(len(described))])
                missing |= {names[number]: unreadable[place + number] for number in np.flatnonzero(~readable)}
                writer.write(first, described, names, readable)
                place += len(described)
                progress(len(described))
            if len(missing) == len(span) and (len(span) == manifest.chunk or manifest.chunks == 1):
                first, why = next(iter(missing.items()))
                raise DataError(
                    f"none of {len(span):,} images in a row can be read, first {first!r}: {why}. Is the disk of --data mounted, and "
                    "are the images where the layout says? `python -m retrieval.data.check --data DIR` lists what is missing."
                )
            writer.finish(chunk, missing)


def _length(describer: Describer) -> int:
    """The length of a model's descriptors, from a grey image."""
    grey = {wanted: np.full((1, wanted.size, wanted.size, 3), 128, np.float32) for wanted in describer.inputs}
    return describer(grey).shape[1]


def finished_store(out: Path) -> Store | None:
    """The store, marked as complete if all its chunks are finished, and its unreadable images told; None if some are not."""
    if not complete(out):
        manifest = read_manifest(out)
        left = manifest.chunks - len(finished_chunks(out, manifest))
        log(f"this shard is finished; {left:,} of {manifest.chunks:,} chunks of {out} belong to others that are not")
        return None
    store = Store.open(out)
    if unreadable := store.unreadable:
        log(f"{len(unreadable):,} of {len(store.ids):,} images could not be read; {out / UNREADABLE} lists them")
    return store
