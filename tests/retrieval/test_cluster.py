"""Embedding on a Ray cluster of two nodes: the rows of a single process to the bit, whatever is killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from retrieval.demo.dataset import DemoSize, write_demo_data
from retrieval.embeddings import Embeddings
from retrieval.search import search_files
from retrieval.store import Store
from zoo.checkpoint import Checkpoint, save_checkpoint
from zoo.errors import SpecError
from zoo.processes import ROOT
from zoo.variants import get_spec
from zoo.weights import initial_weights

pytestmark = pytest.mark.several
SIZE = DemoSize(train_landmarks=2, train_images=2, queried_seen=2, queried_unseen=2, distractors=350)
WORKER = "ray::MapWorker(MapBatches(_Worker))"
WAIT_SECONDS = 120.0


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set, a checkpoint, and the store that a single process makes of them."""
    folder = tmp_path_factory.mktemp("cluster with spaces")
    (folder / "data").mkdir()
    write_demo_data(folder / "data", size=SIZE)
    spec = get_spec("resnet10_narrow")
    checkpoint = Checkpoint(spec, initial_weights(spec, (), 0), 0, {"framework": "torch"})
    save_checkpoint(folder / "model.safetensors", checkpoint)
    done = finish(start(folder, "alone"))
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of two nodes with a processor each, on this machine."""
    pytest.importorskip("ray", reason="needs the extra cluster: pip install -e '.[cluster]'")
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(ROOT)  # the nodes' workers inherit it
    cluster = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
    try:
        cluster.add_node(**node)
        yield cluster.address
    finally:
        cluster.shutdown()
        os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)


def start(folder: Path, out: str, *options: str) -> subprocess.Popen[str]:
    words = ["export.embed", "model.safetensors", "--data", "data", "--out", out, "--batch-size", "2", *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    out, error = process.communicate(timeout=4 * WAIT_SECONDS)
    return subprocess.CompletedProcess(process.args, process.returncode, out, error)


def until(holds: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert process.poll() is None, process.communicate()[1][-2000:]
        assert time.monotonic() < deadline, "nothing was finished in time"
        time.sleep(0.02)


def finished_lines(store: Path) -> int:
    return sum(log.read_bytes().count(b"\n") for log in store.glob("chunks/*.jsonl"))


def workers() -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if WORKER in " ".join(_words(process))]


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it ended in the meantime
        return []


def assert_as_alone(folder: Path, out: str) -> None:
    assert Store.open(folder / out).ids.text == Store.open(folder / "alone").ids.text  # pyright: ignore[reportAttributeAccessIssue]
    for name in ("rows.npy", "squared_norms.npy"):
        assert (folder / out / name).read_bytes() == (folder / "alone" / name).read_bytes(), name


def test_two_nodes_make_the_rows_of_one_process(desk, address):
    done = finish(start(desk, "both", "--cluster", address, "--cpus-per-worker", "1"))
    assert done.returncode == 0, done.stderr[-2000:]
    assert "on 2 workers" in done.stderr
    assert len(list((desk / "both" / "chunks").glob("*.jsonl"))) == 2, "a log per worker"
    assert_as_alone(desk, "both")


def test_a_killed_worker_is_replaced(desk, address):
    process = start(desk, "worker", "--cluster", address, "--cpus-per-worker", "1")
    until(lambda: finished_lines(desk / "worker") >= 2, process)
    killed = workers()
    assert killed
    killed[0].kill()
    done = finish(process)
    assert done.returncode == 0, done.stderr[-2000:]
    assert_as_alone(desk, "worker")


def test_a_killed_command_is_continued(desk, address):
    process = start(desk, "driver", "--cluster", address, "--cpus-per-worker", "1")
    until(lambda: finished_lines(desk / "driver") >= 3, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (desk / "driver" / "complete.json").exists()
    done = finish(start(desk, "driver", "--cluster", address, "--cpus-per-worker", "1"))
    assert done.returncode == 0, done.stderr[-2000:]
    assert "continuing after" in done.stderr
    assert_as_alone(desk, "driver")


def test_an_error_of_a_worker_is_told_as_it_is(desk, address):
    (desk / "text.safetensors").write_text("no checkpoint", encoding="utf-8")
    words = ["export.embed", "text.safetensors", "--data", "data", "--out", "none", "--cluster", address]
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=desk,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "is neither a SavedModel's folder nor an ONNX file nor a checkpoint" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_search_in_parts_is_the_search_of_the_whole(address, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("retrieval.search.ROWS_PER_PART", 150)
    generator = np.random.default_rng(0)
    for name, count in (("index", 400), ("queries", 9), ("others", 400)):
        rows = generator.integers(-2, 3, (count, 6)).astype(np.float32) + np.float32(0.5)  # many equal distances
        Embeddings(tuple(f"{name}{n}" for n in range(count)), rows, {"model": "m"}).save(tmp_path / name)
    places = (tmp_path / "index", tmp_path / "queries")
    search_files(*places, tmp_path / "alone.csv")
    (tmp_path / "both.csv.parts").mkdir()
    search_files(*places, tmp_path / "both.csv.parts" / "00001.safetensors", shard="1/3")
    search_files(tmp_path / "others", places[1], tmp_path / "both.csv.parts" / "00002.safetensors", shard="2/3")
    search_files(*places, tmp_path / "both.csv", cluster=address, cpus_per_worker=1)
    assert "continuing after 1 of 3 parts" in capsys.readouterr().err, "what another search left is not used"
    assert (tmp_path / "both.csv").read_bytes() == (tmp_path / "alone.csv").read_bytes()
    assert not (tmp_path / "both.csv.parts").exists()
    with pytest.raises(SpecError, match="excludes"):
        search_files(*places, tmp_path / "c.csv", cluster=address, shard="0/2")


def test_no_cluster_is_an_error(desk):
    done = finish(start(desk, "none", "--cluster", "127.0.0.1:1"))
    assert done.returncode == 2
    assert "there is no Ray cluster at '127.0.0.1:1'" in done.stderr
