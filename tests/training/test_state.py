"""A run's state on disk: any number of steps, read by any number of processes, whole whenever the run is killed."""

import json
import multiprocessing
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from training import shards
from training.shards import Cut
from training.state import Entry, Saved, StateFolder, state_folder
from zoo.errors import CheckpointError, OutputError
from zoo.processes import module_environment
from zoo.tensors import read_header, read_tensors, write_tensors

IDENTITY = {"recipe": "a", "framework": "torch"}
ROWS = 13
WHOLE = {
    "weights/w": np.arange(6, dtype=np.float32).reshape(2, 3),
    "weights/mean": np.array(0.25, np.float32),  # no axes
    "weights/classes": np.random.default_rng(0).standard_normal((ROWS, 4)).astype(np.float32),
    "momentum/classes": np.random.default_rng(1).standard_normal((ROWS, 2, 2)),  # float64
}
CUT = ("weights/classes", "momentum/classes")
SHAPES = {name: value.shape for name, value in WHOLE.items()}
FORK = multiprocessing.get_context("fork")


def cut(rank: int, processes: int, total: int = ROWS) -> Cut:
    return Cut(total * rank // processes, total * (rank + 1) // processes, total)


def cuts(rank: int, processes: int) -> dict[str, Cut]:
    return dict.fromkeys(CUT, cut(rank, processes)) if processes > 1 else {}


def part(value: np.ndarray, rows: Cut | None) -> np.ndarray:
    return value[rows.start : rows.stop] if rows else value


def save(folder: StateFolder, step: int, processes: int = 2, add: float = 0.0, **numbers: float) -> list[Entry]:
    """The state of `processes` processes, each of which has its number as its own tensor."""
    entries = []
    for rank in range(processes):
        rows = cuts(rank, processes)
        tensors = {name: part(value + value.dtype.type(add), rows.get(name)) for name, value in WHOLE.items()}
        entries.append(folder.write(step, rank, tensors, rows, {"bn.mean": np.full(2, rank, np.float32)}))
    folder.commit(step, entries, numbers)
    return entries


def saved(folder: StateFolder) -> Saved:
    found = folder.saved()
    assert found is not None
    return found


def require_whole(folder: StateFolder, processes: int, add: float = 0.0) -> None:
    """Every process reads what was saved, to the bit."""
    for rank in range(processes):
        rows = cuts(rank, processes)
        tensors, _ = folder.read(saved(folder), rank, processes, SHAPES, rows)
        assert list(tensors) == list(WHOLE)
        for name, value in WHOLE.items():
            expected = part(value + value.dtype.type(add), rows.get(name))
            assert tensors[name].dtype == expected.dtype, name
            assert tensors[name].shape == expected.shape, name
            assert tensors[name].tobytes() == expected.tobytes(), name


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    return StateFolder(state_folder(tmp_path / "a.safetensors"), IDENTITY)


def names(folder: StateFolder) -> set[str]:
    return {path.name for path in folder.path.iterdir()}


def test_the_folder_lies_beside_the_checkpoint(tmp_path):
    assert state_folder(tmp_path / "a.b.safetensors") == tmp_path / "a.b.state"


def test_the_state_does_not_grow_with_the_steps(folder):
    """A safetensors header ends at 100 MB, so it must not hold one entry per step."""
    sizes = []
    for step in (10, 10**12):
        [entry] = save(folder, step, processes=1)
        assert saved(folder).step == step
        header = sum(map(len, read_header(folder.path / entry.name).values()))
        sizes.append((header, (folder.path / "manifest.json").stat().st_size))
        assert names(folder) == {"manifest.json", entry.name}
    assert sizes[1][0] - sizes[0][0] == 11
    assert sizes[1][1] - sizes[0][1] <= 2 * 11 + 1


def test_a_state_comes_back(folder):
    assert folder.saved() is None
    numbers = {"scale": 2.0**16, "best": 0.1 + 0.2, "skipped": 3}
    save(folder, 7, **numbers)
    assert (saved(folder).step, saved(folder).numbers, len(saved(folder).shards)) == (7, numbers, 2)
    require_whole(folder, 2)
    for rank in range(2):
        _, own = folder.read(saved(folder), rank, 2, SHAPES, cuts(rank, 2))
        assert own is not None and {name: value.tolist() for name, value in own.items()} == {"bn.mean": [rank, rank]}


@pytest.mark.parametrize(
    "identity", [{**IDENTITY, "recipe": "b"}, {"framework": "torch"}, {**IDENTITY, "recipe": "b", "precision": "bf16"}]
)
def test_a_state_of_another_run_is_refused(folder, identity):
    save(folder, 7)
    what = " and ".join(k for k in ("recipe", "precision") if identity.get(k) != IDENTITY.get(k))
    for method in (StateFolder.saved, StateFolder.clean):
        with pytest.raises(CheckpointError, match=f"state of another run .different {what}.*Remove .* to start again"):
            method(StateFolder(folder.path, identity))
    require_whole(folder, 2)


@pytest.mark.parametrize("wrote", [1, 2, 3, 4, 7, 8])
@pytest.mark.parametrize("read", [1, 2, 3, 5, 8, ROWS + 3])
def test_any_number_of_processes_reads_what_any_number_wrote(folder, monkeypatch, wrote, read):
    save(folder, 1, processes=wrote, add=0.5)
    loaded = []

    def counted(path, rows, **given):
        arrays = original(path, rows, **given)
        loaded.append(sum(len(value) for name, value in arrays.items() if name == CUT[0]))
        return arrays

    original = shards.read_rows
    monkeypatch.setattr(shards, "read_rows", counted)
    require_whole(folder, read, add=0.5)
    assert sum(loaded) == ROWS, "a process read rows that are not its own"
    _, own = folder.read(saved(folder), 0, read, SHAPES, cuts(0, read))
    assert (own is None) == (wrote != read)


def write_one(path: Path, rank: int, processes: int, told: Connection) -> None:
    rows = cuts(rank, processes)
    tensors = {name: part(value, rows.get(name)) for name, value in WHOLE.items()}
    told.send(StateFolder(path, IDENTITY).write(1, rank, tensors, rows, {}))


def test_processes_write_at_the_same_time(folder):
    pipes = [FORK.Pipe(duplex=False) for _ in range(8)]
    running = [FORK.Process(target=write_one, args=(folder.path, n, 8, told)) for n, (_, told) in enumerate(pipes)]
    for process in running:
        process.start()
    folder.commit(1, [heard.recv() for heard, _ in pipes], {})
    for process in running:
        process.join()
    require_whole(folder, 3)
    assert len(names(folder)) == 9


def test_only_the_first_process_writes_what_is_whole(folder):
    [first, second] = save(folder, 1)
    assert "weights/w" in read_tensors(folder.path / first.name)[0]
    assert set(read_tensors(folder.path / second.name)[0]) == {*CUT, "own/bn.mean"}


def test_a_saved_step_is_not_written_again(folder):
    """A kill between two shards would leave a mixture; the numbers of the state can be renewed."""
    entries = save(folder, 3, best=0.25)
    with pytest.raises(ValueError, match="step 3 is saved"):
        save(folder, 3, add=1)
    folder.commit(3, entries, {"best": 0.5})
    assert saved(folder).numbers == {"best": 0.5}
    require_whole(folder, 2)


def test_a_process_may_be_ahead(folder):
    """Process 1 saves the next step while process 0 has not yet removed the last one."""
    save(folder, 1)
    early = folder.write(3, 1, {name: part(WHOLE[name], cut(1, 2)) for name in CUT}, cuts(1, 2), {})
    entries = save(folder, 2)
    assert names(folder) == {"manifest.json", early.name, *(entry.name for entry in entries)}


def test_what_a_caller_does_wrong_is_found(folder):
    for tensors, rows in (({"w": np.ones(3)}, Cut(0, 2, 4)), ({"w": np.ones(2)}, Cut(3, 5, 4))):
        with pytest.raises(ValueError, match="rows"):
            folder.write(1, 0, tensors, {"w": rows}, {})
    with pytest.raises(ValueError, match="begins with"):
        folder.write(1, 0, {"own/w": np.ones(3)}, {}, {})
    with pytest.raises(ValueError, match="no number of JSON"):
        save(folder, 1, best=float("-inf"))
    save(folder, 2)
    with pytest.raises(ValueError, match="cannot be rows"):
        folder.read(saved(folder), 0, 2, SHAPES, {CUT[0]: Cut(0, 5, ROWS - 1)})


def test_processes_that_do_not_share_a_disk_are_told(folder, tmp_path):
    save(folder, 1)
    entries = [folder.write(2, 0, WHOLE, {}, {}), StateFolder(tmp_path / "b", IDENTITY).write(2, 1, WHOLE, {}, {})]
    with pytest.raises(OutputError, match=r"2-1\.safetensors does not exist.* must write to one folder"):
        folder.commit(2, entries, {})
    require_whole(folder, 2)


def test_something_else_in_the_folders_place_is_an_error(folder):
    folder.path.touch()
    assert folder.saved() is None
    folder.clean()
    with pytest.raises(OutputError, match=r"a\.state.* could not be written"):
        save(folder, 1)
    assert folder.path.is_file()


def put(folder: StateFolder, rank: int, content: bytes) -> None:
    """Puts another file in a shard's place; the manifest knows its size."""
    [name] = [p.name for p in folder.path.glob(f"*-{rank}.safetensors")]
    (folder.path / name).write_bytes(content)
    manifest = json.loads((folder.path / "manifest.json").read_text(encoding="utf-8"))
    manifest["shards"][rank]["size"] = len(content)
    (folder.path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def rewritten(
    rank: int, change: Callable[[dict[str, np.ndarray]], object], header: dict[str, str] | None = None
) -> Callable[[StateFolder], None]:
    """Spoils the tensors or the header of a shard."""

    def spoil(folder: StateFolder) -> None:
        [path] = folder.path.glob(f"*-{rank}.safetensors")
        tensors, found = read_tensors(path)
        change(tensors)
        write_tensors(path, tensors, found | (header or {}))
        put(folder, rank, path.read_bytes())

    return spoil


def from_another(identity: dict[str, str], step: int, rank: int) -> Callable[[StateFolder], None]:
    """Puts the shard of another run, step or process in the place of the first one."""

    def spoil(folder: StateFolder) -> None:
        other = StateFolder(folder.path.with_name("other.state"), identity)
        save(other, step)
        put(folder, 0, (other.path / f"{step}-{rank}.safetensors").read_bytes())

    return spoil


def nothing(tensors: dict[str, np.ndarray]) -> None:
    pass


def ranges(start: object, stop: object, total: object) -> dict[str, str]:
    return {"cuts": json.dumps({"weights/classes": [start, stop, total], "momentum/classes": [6, 13, 13]})}


def shorter(tensors: dict[str, np.ndarray]) -> None:
    tensors["weights/classes"] = tensors["weights/classes"][1:]


SPOILT = {
    "a missing tensor": (rewritten(0, lambda t: t.pop("weights/w")), r"- weights/w \[2, 3\] is missing"),
    "a missing cut tensor": (rewritten(0, shorter, ranges(1, 6, 13) | {"cuts": "{}"}), "expected "),
    "another shape": (
        rewritten(0, lambda t: t.update({"weights/w": np.ones(3, "f4")})),
        r"expected \[2, 3\], found \[3\]",
    ),
    "another type": (
        rewritten(0, lambda t: t.update({"weights/w": np.ones((2, 3), "i4")})),
        "expected F32 or F64, found I32",
    ),
    "two types": (
        rewritten(1, lambda t: t.update({"weights/classes": np.ones((7, 4))})),
        "weights/classes: expected F32 or F64, found F32 and F64",
    ),
    "another tensor": (rewritten(0, lambda t: t.update(x=np.ones(1, "f4"))), r"\+ x \[1\] is not part of this run"),
    "NaN": (rewritten(0, lambda t: t["weights/w"].fill(np.nan)), "weights/w contains 6 values that are not finite"),
    "infinity in a shard": (rewritten(1, lambda t: t["momentum/classes"].fill(np.inf)), "not finite"),
    "NaN of its own": (rewritten(0, lambda t: t["own/bn.mean"].fill(np.nan)), "own/bn.mean contains 2 values"),
    "text of its own": (rewritten(0, lambda t: t.update({"own/x": np.ones(3, "u1")})), "found U8"),
    "whole in two shards": (
        rewritten(1, lambda t: t.update({"weights/w": WHOLE["weights/w"]})),
        "two shards have the rows",
    ),
    "rows twice": (rewritten(1, nothing, ranges(5, 12, 13)), "two shards have the rows from 5"),
    "rows missing between": (rewritten(1, shorter, ranges(7, 13, 13)), "no shard has the rows 6 to 7"),
    "rows missing at the end": (rewritten(1, shorter, ranges(6, 12, 13)), "no shard has the rows 12 to 13"),
    "more rows": (rewritten(1, nothing, ranges(6, 13, 20)), r"expected \[13, 4\], found \[20, 4\]"),
    "rows that its tensor does not have": (rewritten(1, nothing, ranges(6, 12, 13)), "cannot be the rows"),
    "rows backwards": (rewritten(1, nothing, ranges(7, 0, 13)), "cannot be the rows"),
    "rows of text": (rewritten(1, nothing, ranges("6", 13, 13)), "expected three numbers"),
    "rows that are true": (rewritten(1, nothing, ranges(True, 13, 13)), "expected three numbers"),
    "rows of no tensor": (rewritten(1, nothing, {"cuts": '{"y": [0, 1, 1]}'}), "cannot be the rows of y"),
    "ranges that are no mapping": (rewritten(1, nothing, {"cuts": "[]"}), "no mapping"),
    "no ranges": (rewritten(1, nothing, {"cuts": ""}), "row ranges is not valid JSON"),
    "another run's shard": (from_another({**IDENTITY, "recipe": "b"}, 3, 0), "different run"),
    "another step's shard": (from_another(IDENTITY, 4, 0), "different step"),
    "another process's shard": (from_another(IDENTITY, 3, 1), "different rank"),
    "no safetensors": (lambda folder: put(folder, 1, b"rubbish"), "not a readable safetensors file"),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_a_state_that_is_not_sound_is_refused_and_kept(folder, kind):
    spoil, message = SPOILT[kind]
    save(folder, 3)
    spoil(folder)
    before = {path.name: path.read_bytes() for path in folder.path.iterdir()}
    with pytest.raises(CheckpointError, match=rf"(?s){message}.*Remove .* to start again"):
        folder.read(saved(folder), 0, 2, SHAPES, {})
    assert before == {path.name: path.read_bytes() for path in folder.path.iterdir()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.unlink(), "does not exist"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "bytes; expected"),
        (lambda path: (path.unlink(), path.mkdir()), "is a folder"),
    ],
)
def test_a_state_that_is_not_whole_is_refused(folder, change, message):
    save(folder, 3)
    change(folder.path / "3-1.safetensors")
    with pytest.raises(CheckpointError, match=f"3-1.safetensors .*{message}.*not whole. Remove .* to start again"):
        folder.saved()


MANIFESTS = {
    "cut": ('"shards"', "", "not valid JSON"),
    "no step": ('"step": 3,', "", "step"),
    "a step below 0": ('"step": 3', '"step": -1', "step"),
    "half a step": ('"step": 3', '"step": 3.5', "step"),
    "a step of text": ('"step": 3', '"step": "3"', "step"),
    "too many steps": ('"step": 3', f'"step": {10**12 + 1}', "step"),
    "digits": ('"step": 3', '"step": ' + "9" * 5000, "not valid JSON"),
    "another step": ('"step": 3', '"step": 4', r"expected the shard 4-0\.safetensors"),
    "another format": ("state-1", "state-2", "not written by this version"),
    "no numbers": ('"best": 0.5', '"best": null', "best|numbers"),
    "an infinite number": ('"best": 0.5', '"best": 1e999', "not valid JSON"),
    "too large a number": ('"best": 0.5', '"best": 1' + "0" * 390, "numbers"),
    "another folder's shard": ('"3-0.', '"../a.state/3-0.', "expected the shard"),
    "a shard twice": ('"3-1.', '"3-0.', "expected the shard"),
    "a size below 0": ('"size": ', '"size": -', "size"),
    "identity of a list": ('"identity": {', '"identity": [], "was": {', "another run"),
}


@pytest.mark.parametrize("kind", MANIFESTS)
def test_a_damaged_manifest_is_refused_and_nothing_is_removed(folder, kind):
    old, new, message = MANIFESTS[kind]
    save(folder, 3, best=0.5)
    place = folder.path / "manifest.json"
    text = place.read_text(encoding="utf-8")
    assert old in text
    place.write_text(text.replace(old, new), encoding="utf-8")
    for method in (folder.saved, folder.clean):
        with pytest.raises(CheckpointError, match=rf"a\.state.*({message}).*Remove .* to start again"):
            method()
    assert names(folder) == {"manifest.json", "3-0.safetensors", "3-1.safetensors"}


LEFT = (
    "12-0.safetensors",
    "1-0.safetensors",
    ".12-1.safetensors.0a1b2c3d.partial",
    ".12-1.safetensors.lock",
    ".manifest.json.0a1b2c3d.partial",
)
USERS = ("notes.txt", "copy-of-3-0.safetensors", ".hidden.json.mine", "history.csv")


def test_leftovers_are_removed_and_nothing_else(folder):
    save(folder, 3)
    mine = names(folder)
    for name in (*LEFT, *USERS):
        (folder.path / name).touch()
    folder.clean()
    assert names(folder) == mine | {*USERS}
    require_whole(folder, 2)
    (folder.path / "manifest.json").unlink()
    folder.clean()
    assert names(folder) == {*USERS}


def test_a_finished_run_leaves_nothing_but_what_is_not_its_own(folder):
    StateFolder(folder.path, IDENTITY).remove()  # there is none
    for kept in ((), ("notes.txt",)):
        save(folder, 3)
        for name in (*LEFT, "history.csv", *kept):
            (folder.path / name).touch()
        folder.remove()
        assert folder.path.exists() == bool(kept)
    assert names(folder) == {"notes.txt"}


def test_nothing_is_removed_while_another_process_trains(folder, monkeypatch):
    monkeypatch.setattr("training.state.WAIT_SECONDS", 0)
    save(folder, 3)
    (folder.path / LEFT[0]).touch()
    code = (
        "import sys; from pathlib import Path; from training.history import History; "
        "h = History(Path(sys.argv[1]), 0); print('open', flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", code, str(folder.history)]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, env=module_environment(), stdin=pipe, stdout=pipe, encoding="utf-8") as other:
        assert other.stdout.readline() == "open\n"
        with pytest.raises(OutputError, match="is being written by another process"):
            folder.clean()
        other.stdin.close()
    assert (folder.path / LEFT[0]).exists()
    folder.clean()
    assert not (folder.path / LEFT[0]).exists()


def train_on(path: Path, told: Connection | None, last: int) -> None:
    """Saves one state after another, and says so after each."""
    folder = StateFolder(path, IDENTITY)
    folder.clean()
    found = folder.saved()
    for step in range(found.step + 1 if found else 1, last + 1):
        save(folder, step, add=step, best=step)
        if told is not None:
            told.send(step)


def require_a_saved_step(folder: StateFolder, least: int, most: int) -> None:
    step = saved(folder).step
    assert least <= step <= most
    assert saved(folder).numbers == {"best": step}
    require_whole(folder, 2, add=step)
    folder.clean()
    assert names(folder) == {"manifest.json", f"{step}-0.safetensors", f"{step}-1.safetensors"}


def test_a_kill_at_any_time_leaves_the_last_state(folder):
    moments, step = random.Random(0), 0
    for _ in range(25):
        heard, told = FORK.Pipe(duplex=False)
        process = FORK.Process(target=train_on, args=(folder.path, told, 10**6))
        process.start()
        told.close()
        least = heard.recv()
        assert least == step + 1, "the killed run's last state was not continued"
        time.sleep(moments.uniform(0, 0.02))
        process.kill()
        process.join()
        with suppress(EOFError):
            while True:
                least = heard.recv()
        require_a_saved_step(folder, least, least + 1)
        step = saved(folder).step


def ended_at(call: int, path: Path) -> None:
    """Ends itself, as if killed, at a system call that changes or opens something."""
    left = [call]

    def count(event: str, arguments: tuple) -> None:
        if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.chmod", "os.truncate", "fcntl.flock"):
            left[0] -= 1
            if left[0] < 0:
                os._exit(9)

    sys.addaudithook(count)
    train_on(path, None, 3)
    os._exit(0)


def test_a_kill_at_any_system_call_leaves_a_state(tmp_path):
    """From one state to the third: the second is between."""
    for call in range(1000):
        folder = StateFolder(tmp_path / f"{call}.state", IDENTITY)
        save(folder, 1, add=1, best=1)
        process = FORK.Process(target=ended_at, args=(call, folder.path))
        process.start()
        process.join()
        require_a_saved_step(folder, 1, 3)
        if process.exitcode == 0:
            break
    assert call > 20
    assert saved(folder).step == 3


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """`ulimit -f`: the system refuses to write beyond `size` bytes of a file."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.parametrize(("size", "name"), [(300, "4-0.safetensors"), (1400, "manifest.json")])
def test_a_full_disk_leaves_the_last_state(tmp_path, size, name):
    folder = StateFolder(tmp_path / "a.state", IDENTITY | {"model": "m" * 1400})
    save(folder, 3)
    with largest_file(size), pytest.raises(OutputError, match=f"{name} could not be written"):
        save(folder, 4, add=1)
    assert saved(folder).step == 3
    require_whole(folder, 2)
    assert not [path for path in names(folder) if path.startswith(".")]
    save(folder, 4, add=1)
    require_whole(folder, 2, add=1)
    assert names(folder) == {"manifest.json", "4-0.safetensors", "4-1.safetensors"}
