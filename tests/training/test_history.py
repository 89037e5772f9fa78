"""A run's history may have any number of steps, comes back exactly, and is damaged by no kill."""

import math
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from training.history import COLUMNS, History, finish_history, history_path, read_history
from training.schedule import Step
from training.state import StateFolder, state_folder
from zoo.errors import CheckpointError, OutputError
from zoo.processes import module_environment

TITLES = "step,stage,epoch,resolution,margin,learning_rate,loss,accuracy,gradient_norm\n"


def step(number: int) -> Step:
    return Step(number, 1, number // 4, number % 4, 64, 0.1, 0.01)


def write(path: Path, steps: int, loss: Callable[[int], float] = lambda number: 1.5) -> None:
    history = History(path, 0)
    for number in range(steps):
        history.add(step(number), loss(number), 0.25, 2.0)
    history.close()


def finished(tmp_path: Path, text: str | bytes) -> Path:
    """A checkpoint beside which a history lies."""
    history_path(tmp_path / "a.safetensors").write_bytes(text if isinstance(text, bytes) else text.encode())
    return tmp_path / "a.safetensors"


def test_every_number_comes_back_to_the_bit(tmp_path):
    random.seed(0)
    numbers = [math.ldexp(random.random(), random.randrange(-1000, 1000)) for _ in range(500)]
    numbers += [0.0, -0.0, 5e-324, 1.7976931348623157e308, 1e16, 1e22, 0.1 + 0.2]
    history = History(tmp_path / "history.csv", 0, last=1000)
    for number, value in enumerate(numbers):
        history.add(Step(number, 3, number, 0, 512, -value, value), value, -value, value)
    history.close()
    assert list(history.losses) == numbers
    history = History(tmp_path / "history.csv", len(numbers), last=7)
    history.close()
    assert list(history.losses) == numbers[-7:]
    found = read_history(finished(tmp_path, (tmp_path / "history.csv").read_bytes()))
    assert found == [
        dict(zip(COLUMNS, (number, 3, number, 512, -v, v, v, -v, v), strict=True)) for number, v in enumerate(numbers)
    ]
    assert [repr(entry["accuracy"]) for entry in found] == [repr(-value) for value in numbers]
    assert all(type(entry[key]) is int for entry in found for key in ("step", "stage", "epoch", "resolution"))


def test_a_skipped_step_has_no_finite_gradient(tmp_path):
    history = History(tmp_path / "history.csv", 0)
    for number, norm in enumerate((math.inf, math.nan, 1.0)):
        history.add(step(number), 1.0, 0.0, norm)
    history.close()
    History(tmp_path / "history.csv", 3).close()
    found = read_history(finished(tmp_path, (tmp_path / "history.csv").read_bytes()))
    assert str([entry["gradient_norm"] for entry in found]) == "[inf, nan, 1.0]"


def test_a_history_is_cut_to_the_state_and_goes_on(tmp_path):
    path = tmp_path / "history.csv"
    write(path, 5)
    with open(path, "a", encoding="utf-8") as file:
        file.write("5,1,0,6")  # the process was killed in the middle of a line
    history = History(path, 3, last=2)
    assert list(history.losses) == [1.5, 1.5]
    history.add(step(3), 0.5, 0.75, 2.0)
    history.close()
    found = read_history(finished(tmp_path, path.read_bytes()))
    assert [entry["step"] for entry in found] == [0, 1, 2, 3]
    assert [entry["loss"] for entry in found] == [1.5, 1.5, 1.5, 0.5]
    History(path, 0).close()
    assert path.read_text(encoding="utf-8") == TITLES


def test_a_history_that_lost_steps_is_refused(tmp_path):
    path = tmp_path / "a.state" / "history.csv"
    for text in (None, "", TITLES[:-1]):
        if text is not None:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        with pytest.raises(CheckpointError, match=r"a\.state.history\.csv.* Remove .*a\.state to start again"):
            History(path, 4)
    write(path, 1)
    with pytest.raises(CheckpointError, match="has 1 steps, but the state beside it has 4.* Remove"):
        History(path, 4)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="has 0 steps, but the state beside it has 1"):
        History(path, 1)


DAMAGED = {
    "empty": "",
    "spaces": " ",
    "words": "damaged",
    "too few": "1,1,0,64,0.1,0.01,1.5,0.25",
    "too many": "1,1,0,64,0.1,0.01,1.5,0.25,2.0,3.0",
    "another step": "77,1,0,64,0.1,0.01,1.5,0.25,2.0",
    "a step twice": "0,1,0,64,0.1,0.01,1.5,0.25,2.0",
    "half a step": "1.0,1,0,64,0.1,0.01,1.5,0.25,2.0",
    "a step below 0": "-1,1,0,64,0.1,0.01,1.5,0.25,2.0",
    "an empty loss": "1,1,0,64,0.1,0.01,,0.25,2.0",
    "a loss of text": "1,1,0,64,0.1,0.01,high,0.25,2.0",
    "a loss of NaN": "1,1,0,64,0.1,0.01,nan,0.25,2.0",
    "an infinite loss": "1,1,0,64,0.1,0.01,1e999,0.25,2.0",
    "a loss of many digits": f"1,1,0,64,0.1,0.01,{'9' * 500},0.25,2.0",
    "a long step": f"{'1' * 5000},1,0,64,0.1,0.01,1.5,0.25,2.0",
    "an underscore": "1,1,0,6_4,0.1,0.01,1.5,0.25,2.0",
    "other digits": "1,1,0,٦٤,0.1,0.01,1.5,0.25,2.0",
    "quotes": '1,1,0,64,0.1,0.01,"1.5",0.25,2.0',
    "semicolons": "1;1;0;64;0.1;0.01;1.5;0.25;2.0",
    "a carriage return": "1,1,0,64,0.1,0.01,1.5,0.25,2.0\r",
    "a zero byte": "1,1,0,64,0.1,0.01,1.5,0.25,2.0\0",
    "titles again": TITLES[:-1],
    "a long line": "1" * 100_000,
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_line_is_found_before_training_goes_on(tmp_path, kind):
    path = tmp_path / "a.state" / "history.csv"
    write(path, 3)
    lines = path.read_text(encoding="utf-8").split("\n")
    lines[2] = DAMAGED[kind]
    damaged = "\n".join(lines).encode()
    path.write_bytes(damaged)
    with pytest.raises(
        CheckpointError, match=r"history\.csv(, line 3| has 1 steps).* Remove .*a\.state to start again"
    ):
        History(path, 3)
    assert path.read_bytes() == damaged, "the damaged file was changed"
    with pytest.raises(CheckpointError, match=r"a\.history\.csv, line 3: .* Train again to write it"):
        read_history(finished(tmp_path, damaged))
    History(path, 1).close()  # the damaged line is computed again


@pytest.mark.parametrize(
    "titles", ["", "{", "step,loss\n", "\ufeff" + TITLES, TITLES.replace("\n", "\r\n"), TITLES[:-1]]
)
def test_a_table_of_other_columns_is_no_history(tmp_path, titles):
    with pytest.raises(CheckpointError, match=r"a\.history\.csv, line 1: expected .* Train again to write it"):
        read_history(finished(tmp_path, titles))


def test_a_missing_history_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"a\.history\.csv does not exist.* Train again"):
        read_history(tmp_path / "a.safetensors")


def test_a_long_history_is_checked_within_seconds(tmp_path):
    """120 epochs of GLDv2's images are 700,000 steps; a tenth of them may take a tenth of two seconds, and as much again."""
    steps, path = 70_000, tmp_path / "history.csv"
    random.seed(0)
    write(path, steps, lambda number: random.random())
    times = []
    for _ in range(5):
        start = time.process_time()
        History(path, steps, last=3000).close()
        times.append(time.process_time() - start)
    assert min(times) < 0.4


def test_a_finished_history_lies_beside_the_checkpoint(tmp_path):
    """It stays in the state's folder until the checkpoint is written: a run that is killed before that goes on."""
    out = tmp_path / "a.safetensors"
    folder = StateFolder(state_folder(out), {})
    write(folder.history, 2)
    history_path(out).write_text("of the run before", encoding="utf-8")
    finish_history(out)
    assert [entry["step"] for entry in read_history(out)] == [0, 1]
    History(folder.history, 2).close()
    folder.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["a.history.csv"]
    with pytest.raises(CheckpointError, match=r"history\.csv does not exist.* Remove .*a\.state"):
        finish_history(out)
    assert len(read_history(out)) == 2


def test_a_history_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"history\.csv could not be written"):
        History(tmp_path / "file" / "history.csv", 0)


def test_two_trainings_to_one_checkpoint_and_the_second_is_refused(tmp_path):
    """The lock belongs to a process, so another one has to try."""
    path = tmp_path / "history.csv"
    history = History(path, 0)
    code = (
        "import sys, training.history as h; from pathlib import Path; from zoo.command import run; h.WAIT_SECONDS = 0; "
        "run(lambda: h.History(Path(sys.argv[1]), 0))"
    )
    words = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(words, env=module_environment(), capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 2
    assert "history.csv is being written by another process" in done.stderr
    history.close()
    assert subprocess.run(words, env=module_environment(), check=False).returncode == 0
    assert [p.name for p in tmp_path.iterdir() if p.suffix != ".lock"] == ["history.csv"]
