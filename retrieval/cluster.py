"""The work of a command on a Ray cluster (extra `cluster`).

To embed a split, Ray Data hands out the numbers of chunks, and each worker computes and writes its chunks as a single process does
(`retrieval.embed_split.embed_chunks`). A search's parts are tasks that write their results as a single process does.

No descriptor travels through Ray. A worker that dies is replaced and its work is done again; if the command dies, the next one
continues with what is missing on the disk. All machines must see the same files under the same paths, and have landmark-zoo installed.
"""

import logging
import os
import socket
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from retrieval.data.gldv2 import Gldv2
from retrieval.data.sources import open_source
from retrieval.describer import Describer
from retrieval.embed_split import (
    embed_chunks,
    finished_store,
    prepare_store,
    progress_bar,
    unfinished,
)
from retrieval.image_batches import StoredImages
from retrieval.store import Store, StoreManifest, finished_chunks, read_ids, read_manifest
from retrieval.store_writer import ChunkWriter
from zoo.errors import DataError, ZooError

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")  # the command has its own
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")

import ray
import ray.data
import ray.exceptions

CHUNKS_PER_CALL = 4
"""Chunks that a worker computes in one call: within a call it decodes ahead over the borders of chunks."""


def embed_on_cluster(
    open_model: Callable[[], Describer],
    data: Gldv2,
    split: str,
    out: Path,
    *,
    address: str,
    cpus_per_worker: int | None = None,
    **options: Any,
) -> Store:
    """As `retrieval.embed_split.embed_split`, on many machines; the rows are the same to the bit.

    Args:
        open_model: opens the model; called in each worker.
        data, split, out, options: as in `embed_split`.
        address: of a running cluster, as `ray.init` takes it ("auto", "host:6379", "ray://…"), or "local" for one on this machine.
        cpus_per_worker: processors of a worker; by default a GPU's share of them, or all of the smallest machine. Each worker has a
            GPU if the cluster has any.

    Raises:
        DataError, OutputError, ExportError …: as `embed_split`, or there is no cluster at `address`.
    """
    with _connected(address):
        cpus, gpus, workers = _resources(cpus_per_worker)
        root, place = data.root.absolute(), out.absolute()
        prepare = ray.remote(num_cpus=cpus, num_gpus=gpus, max_calls=1)(_prepare)
        manifest: StoreManifest = ray.get(prepare.remote(open_model, root, split, place, options))
        left = unfinished(place, manifest, range(manifest.chunks))
        if left:
            blocks = -(-len(left) // CHUNKS_PER_CALL)
            finished = ray.data.from_items(
                [{"chunk": chunk} for chunk in left], override_num_blocks=blocks
            ).map_batches(
                _Worker,
                batch_size=CHUNKS_PER_CALL,
                compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(workers, blocks)),
                num_cpus=cpus,
                num_gpus=gpus,
                fn_constructor_kwargs={"open_model": open_model, "root": root, "split": split, "out": place},
                runtime_env={"env_vars": {"TF_NUM_INTRAOP_THREADS": str(cpus)}},
            )
            logging.getLogger("ray.data").setLevel(logging.ERROR)  # here, because Ray sets it when a data set is made
            with progress_bar(manifest, range(manifest.chunks), left, f"embed {split} on {workers} workers") as bar:
                for row in finished.iter_rows():
                    bar.update(len(manifest.rows_of(int(row["chunk"]))))
    store = finished_store(out)
    if store is None:
        raise DataError(f"{out}: Ray ended without all chunks. Run the same command again; it continues there.")
    return store


_ANSWER_SECONDS, _RETRIES = 10.0, 10


def run_on_cluster(
    calls: Sequence[Callable[[], object]], *, address: str, cpus_per_worker: int | None = None, label: str
) -> None:
    """Runs functions on a cluster, each in a process with a GPU if there are any; what they return is dropped.

    Args:
        calls: without arguments; a function whose process died is called again.
        address, cpus_per_worker: as in `embed_on_cluster`.
        label: of the progress bar.

    Raises:
        ZooError: what a function raised, or there is no cluster at `address`.
    """
    with _connected(address):
        cpus, gpus, _ = _resources(cpus_per_worker)
        task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=_RETRIES)(_called)
        waiting = [task.remote(call) for call in calls]
        with tqdm(total=len(waiting), desc=label, unit="part") as bar:
            while waiting:
                done, waiting = ray.wait(waiting)
                ray.get(done)
                bar.update(len(done))


def _called(call: Callable[[], object]) -> None:
    call()


class _Worker:
    """An actor: the model, and a log of its own in the store."""

    def __init__(self, open_model: Callable[[], Describer], root: Path, split: str, out: Path) -> None:
        self._describer, self._out, self._ids = open_model(), out, read_ids(out)
        self._done = finished_chunks(out, read_manifest(out)).keys()
        self._images = StoredImages(open_source(Gldv2(root), split, progress=False), self._ids)
        self._name = f"{socket.gethostname()}-{uuid.uuid4().hex[:12]}"

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        # A call is repeated if a worker died in it. The worker that replaces it leaves out what it had finished; another
        # computes the few chunks of the call once more, which writes the same bytes.
        chunks = sorted({int(chunk) for chunk in batch["chunk"]} - self._done)
        with ChunkWriter(self._out, self._name) as writer:
            embed_chunks(self._describer, self._images, self._ids, writer, chunks)
        return batch


def _prepare(
    open_model: Callable[[], Describer], root: Path, split: str, out: Path, options: dict[str, Any]
) -> StoreManifest:
    return prepare_store(open_model(), Gldv2(root), split, out, **options)


def _resources(cpus_per_worker: int | None) -> tuple[int, int, int]:
    """Processors and GPUs of a worker, and how many workers the cluster has room for."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus = [int(node.get("CPU", 0)) for node in nodes if node.get("CPU", 0) >= 1]
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    if not cpus:
        raise DataError("the Ray cluster has no processors; start its nodes with `ray start --num-cpus N`.")
    each = cpus_per_worker or max(1, sum(cpus) // gpus if gpus else min(cpus))
    workers = sum(count // each for count in cpus)
    if not workers:
        raise DataError(
            f"no machine of the Ray cluster has {each} processors; the largest has {max(cpus)}. Pass a smaller --cpus-per-worker."
        )
    return each, int(gpus > 0), min(workers, gpus) if gpus else workers


@contextmanager
def _connected(address: str) -> Iterator[None]:
    """A connection to a cluster. Errors that a worker raised on purpose come out as they are."""
    try:
        _require_an_answer(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(
            f"there is no Ray cluster at {address!r}: {' '.join(str(error).split())[:300]}. Start one with `ray start --head`, or "
            "pass --cluster local."
        ) from error
    try:
        yield
    except ray.exceptions.RayError as error:
        raise _cause(error) from error
    finally:
        ray.shutdown()


def _require_an_answer(address: str) -> None:
    """Raises `OSError` if nothing listens at `host:port`; Ray would go on asking for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS).close()


def _cause(error: BaseException) -> ZooError:
    """The error of ours that Ray wraps, or Ray's own as one."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ZooError):
            return type(seen)(str(getattr(seen, "cause", seen)))
        seen = getattr(seen, "cause", None) or seen.__cause__
    return DataError(
        f"Ray ended the work: {' '.join(str(error).split())[-600:]}. What is finished is kept; run the same command again."
    )
