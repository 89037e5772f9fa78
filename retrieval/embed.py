"""The commands that embed a split."""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np

from retrieval.data.gldv2 import SPLITS, Gldv2
from retrieval.describer import Describer
from retrieval.embed_split import embed_split
from retrieval.image_batches import BATCH_SIZE
from retrieval.shard import Shard
from retrieval.store import Dtype
from retrieval.store_writer import WAIT_SECONDS
from zoo.arguments import given_path, ranged
from zoo.checkpoint import Checkpoint, load_checkpoint
from zoo.claims import claimed
from zoo.errors import DataError, OutputError
from zoo.files import new_file, output_file, require_elsewhere
from zoo.strict import Count


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of every command that embeds a split."""
    parser.add_argument("--split", choices=SPLITS, default="index", help="split of --data (default: index)")
    parser.add_argument("--batch-size", type=ranged(Count), default=BATCH_SIZE, help="images per batch, with --data")
    parser.add_argument(
        "--dtype", choices=get_args(Dtype), default="float16", help="of the stored descriptors (default: float16)"
    )
    parser.add_argument(
        "--shard",
        default="0/1",
        metavar="I/N",
        help="which part of the work: processes 0/4 to 3/4 fill one store together",
    )
    parser.add_argument(
        "--only-scored", action="store_true", help="of --split test, the queries that the solution scores"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a store of another model or data set")


def embed_at_the_door(
    open_model: Callable[[], Describer],
    model: Path,
    data: Path,
    split: str,
    out: Path,
    *,
    shard: str = "0/1",
    cluster: str | None = None,
    cpus_per_worker: int | None = None,
    **options: Any,
) -> None:
    """What every command that embeds a split does: what is known to be wrong is refused before the model is opened.

    Args:
        open_model: opens the model.
        model: its path.
        data: the data set's root.
        split, out, options: as in `embed_split`.
        shard: the text of a `Shard`.
        cluster, cpus_per_worker: as in `retrieval.cluster.embed_on_cluster`; None computes in this process.

    Raises:
        DataError, OutputError: as `embed_split`, or `out` is one of the inputs.
    """
    dataset, part = Gldv2(data), Shard.parse(shard)
    if out.suffix == ".safetensors":
        raise OutputError(
            f"{out}: a store is a folder; expected a name without .safetensors. Pass --out {out.with_suffix('')}."
        )
    require_elsewhere(out, [model, *dataset.files()], around=[dataset.root])
    with claimed(out, wait=WAIT_SECONDS):
        pass  # a folder that cannot be written is found before the work; other shards may claim it too
    if cluster is None:
        embed_split(open_model(), dataset, split, out, shard=part, **options)
        return
    from retrieval.cluster import embed_on_cluster  # Ray is an extra, and takes a second to import

    embed_on_cluster(open_model, dataset, split, out, address=cluster, cpus_per_worker=cpus_per_worker, **options)


def checkpoint_command(framework: str, describer: Callable[[Checkpoint], Describer]) -> None:
    """The command line of `torch_models.embed` and `paddle_models.embed`."""
    parser = argparse.ArgumentParser(
        description=f"""Descriptors of a checkpoint in {framework}: the reference that exports are compared with.

Example:
    python -m {framework}_models.embed --ckpt resnet50.safetensors --data DATA --split index --out index_store""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--ckpt", required=True, type=given_path, help="a landmark-zoo checkpoint from either framework"
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--data", type=given_path, help="a data set in the Google Landmarks v2 layout")
    what.add_argument("--pixels", type=given_path, help="an npz of resized batches float32 [N, H, W, 3], RGB, 0 to 255")
    parser.add_argument(
        "--out", required=True, type=given_path, help="the store to write or to continue, or an npz with --pixels"
    )
    add_data_arguments(parser)
    given = vars(parser.parse_args())
    checkpoint, data, pixels, out = (given.pop(name) for name in ("ckpt", "data", "pixels", "out"))
    if data:
        split = given.pop("split")
        embed_at_the_door(lambda: describer(load_checkpoint(checkpoint)), checkpoint, data, split, out, **given)
    else:
        with output_file(out, [checkpoint, pixels]):
            describe_pixels(describer(load_checkpoint(checkpoint)), pixels, out)
    print(out)


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
