"""Kills commands at any moment, starts them again, and compares their results with those of unbroken runs.

Example:
    python -m tests.reliability.kills --commands import search train --kills 20

For each command, SIGKILL is sent at uniformly spread moments, then the same command runs to its end. SIGTERM, SIGHUP and SIGINT are
sent too: the command has to end by itself, with the signal's status and nothing left behind. A child that is alive five seconds after
its command is an orphan; a hidden file beside the output after the next run is a leftover.
"""

import argparse
import dataclasses
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from benchmarks.results_files import write_results
from retrieval.demo.dataset import DemoSize, write_demo_data
from retrieval.embeddings import Embeddings
from tests.default_signals import default_signals
from tests.measured_models import write_tiny_saved_models
from zoo.arguments import ranged
from zoo.checkpoint import Checkpoint, save_checkpoint
from zoo.command import log
from zoo.processes import ROOT
from zoo.strict import Count, Seed
from zoo.tensors import read_tensors, write_tensors
from zoo.variants import get_spec
from zoo.weights import initial_weights

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
ORPHAN_SECONDS = 5
_TINY = DemoSize(
    train_landmarks=4, train_images=8, queried_seen=2, queried_unseen=1, index_images=3, queries=2, other_images=1,
    distractors=2, ignored=1,
)  # fmt: skip
_RECIPE = """models: [resnet10_narrow]
batch_size: 8
stages: [{epochs: 3, resolution: 32, margin: 0.1, learning_rate: 0.01}]
"""


@dataclass(frozen=True)
class Command:
    """A command to kill: its words, with relative paths, and the output that it makes in the working directory."""

    words: tuple[str, ...]
    out: str


COMMANDS = {
    "import": Command(
        (
            "zoo.import_weights",
            "published.bin",
            "--model",
            "resnet10_narrow",
            "--headless",
            "--out",
            "out/a.safetensors",
        ),
        "out/a.safetensors",
    ),
    "whitening": Command(
        (
            "retrieval.whitening",
            "--embeddings",
            "index.safetensors",
            "--dimensions",
            "64",
            "--out",
            "out/w.safetensors",
        ),
        "out/w.safetensors",
    ),
    "search": Command(
        ("retrieval.search", "--index", "index.safetensors", "--queries", "queries.safetensors", "--out", "out/a.csv"),
        "out/a.csv",
    ),
    "write weights": Command(
        ("torch_models.write_weights", "--ckpt", "model.safetensors", "--out", "out/a.pth"),
        "out/a.pth",
    ),
    "demo data": Command(("retrieval.demo", "--out", "out/data", "--seed", "3"), "out/data"),
    "train torch": Command(
        ("torch_models.train", "--recipe", "recipe.yaml", "--data", "data", "--out", "out/a.safetensors"),
        "out/a.safetensors",
    ),
    "train paddle": Command(
        ("paddle_models.train", "--recipe", "recipe.yaml", "--data", "data", "--out", "out/a.safetensors"),
        "out/a.safetensors",
    ),
    "embed": Command(
        (
            "torch_models.embed",
            "--ckpt",
            "model.safetensors",
            "--data",
            "data",
            "--out",
            "out/a",
            "--batch-size",
            "1",
        ),
        "out/a",
    ),
    "export": Command(
        (
            "export.to_savedmodel",
            "--ckpt",
            "model.safetensors",
            "--framework",
            "torch",
            "--no-verify",
            "--out",
            "out/a",
        ),
        "out/a",
    ),
}
COMMANDS["pack"] = Command(
    ("submission.pack", "--saved-model", "models/good", "--owner", "someone", "--no-verify", "--out", "out/upload"),
    "out/upload/submission.zip",
)
QUICK = ("import", "whitening", "search")
"""Commands that take a second or two."""


@dataclass
class Outcome:
    """What became of the kills of one command."""

    command: str
    kills: int = 0
    damaged: int = 0
    other_result: int = 0
    signals: int = 0
    wrong_status: int = 0
    orphans: int = 0
    leftovers: int = 0

    @property
    def faults(self) -> int:
        """Everything that should be 0, together."""
        return self.damaged + self.other_result + self.wrong_status + self.orphans + self.leftovers


def prepare(folder: Path) -> None:
    """The inputs of all commands."""
    generator = np.random.default_rng(0)
    for name, count in (("index", 3000), ("queries", 200)):
        rows = generator.normal(size=(count, 64)).astype(np.float32)
        Embeddings(tuple(f"{name}{n}" for n in range(count)), rows, {"model": "random"}).save(
            folder / f"{name}.safetensors"
        )
    spec = get_spec("resnet10_narrow")
    weights = initial_weights(spec, (), 0)
    save_checkpoint(folder / "model.safetensors", Checkpoint(spec, weights, 0, {"framework": "torch"}))
    backbone = {name.removeprefix("backbone."): v for name, v in weights.items() if name.startswith("backbone.")}
    write_tensors(folder / "published.bin", backbone)
    (folder / "recipe.yaml").write_text(_RECIPE, encoding="utf-8")
    (folder / "data").mkdir()
    write_demo_data(folder / "data", size=_TINY)
    (folder / "models").mkdir()
    write_tiny_saved_models(folder / "models")


def try_command(name: str, inputs: Path, kills: int, seed: int = 0) -> Outcome:
    """Kills a command `kills` times, and sends it each of `SIGNALS` once."""
    command, outcome, generator = COMMANDS[name], Outcome(name), random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="kills ") as folder:
        place = Path(folder)
        start = time.monotonic()
        unbroken = _finished(command, _fresh(place / "unbroken", inputs))
        seconds = time.monotonic() - start
        if unbroken is None:
            raise RuntimeError(f"{name} fails without being killed")
        for number in range(kills):
            where = _fresh(place / f"kill {number}", inputs)
            moment = seconds * 1.05 * (number + generator.random()) / kills
            outcome.orphans += _killed(command, where, moment, signal.SIGKILL)[1]
            outcome.kills += 1
            found = _finished(command, where)
            outcome.damaged += found is None
            outcome.other_result += found is not None and found != unbroken
            outcome.leftovers += len(_hidden(where))
            shutil.rmtree(where)
        for number in SIGNALS:
            where = _fresh(place / number.name, inputs)
            status, orphans = _killed(command, where, seconds * generator.uniform(0.3, 0.9), number)
            outcome.signals += 1
            outcome.wrong_status += status not in (0, 128 + number, 128 + signal.SIGINT, -number)
            outcome.orphans += orphans
            outcome.leftovers += len(_hidden(where))
            found = _finished(command, where)
            outcome.other_result += found != unbroken
    return outcome


def _fresh(folder: Path, inputs: Path) -> Path:
    """A working directory with links to the inputs."""
    folder.mkdir()
    for path in inputs.iterdir():
        (folder / path.name).symlink_to(path)
    return folder


def _start(command: Command, folder: Path) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": ""}
    words = [sys.executable, "-m", *command.words]
    nowhere = subprocess.DEVNULL
    return subprocess.Popen(
        words,
        cwd=folder,
        env=environment,
        stdout=nowhere,
        stderr=nowhere,
        start_new_session=True,
        preexec_fn=default_signals,
    )


def _killed(command: Command, folder: Path, seconds: float, number: signal.Signals) -> tuple[int, int]:
    """Sends a signal after some seconds; returns the exit status and how many children are alive after it."""
    process = _start(command, folder)
    try:
        return process.wait(seconds), 0
    except subprocess.TimeoutExpired:
        pass
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    status = process.wait(60)
    _, alive = psutil.wait_procs(children, ORPHAN_SECONDS)
    for child in alive:
        child.kill()
    return status, len(alive)


def _finished(command: Command, folder: Path) -> str | None:
    """Runs the command to its end; the digest of its output, or None if it fails. A finished output is left as it is."""
    out = folder / command.out
    if not out.exists() and _start(command, folder).wait(600):
        return None
    return digest(out)


def _hidden(folder: Path) -> list[Path]:
    """Temporary files that a command left in its output's folder.

    A lock does not count: if a command is killed between its last rename and its end, the lock's file stays until the next command.
    """
    found = (folder / "out").rglob(".*") if (folder / "out").is_dir() else ()
    return [path for path in found if path.suffix != ".lock"]


def digest(path: Path) -> str:
    """sha256 of a file's or a folder's content. safetensors orders its header at random, so its tensors count."""
    found = hashlib.sha256()
    for file in sorted(p for p in (path.rglob("*") if path.is_dir() else [path]) if p.is_file()):
        found.update(f"{file.relative_to(path.parent)}\n".encode())
        if file.suffix == ".safetensors":
            tensors, header = read_tensors(file)
            for name in sorted(tensors):
                found.update(name.encode() + tensors[name].tobytes())
            found.update(repr(sorted(header.items())).encode())
        else:
            found.update(file.read_bytes())
    return found.hexdigest()


def table(rows: Sequence[dict]) -> str:
    """One line per command."""
    lines = [
        "| command | SIGKILL | damaged or lost | another result | SIGTERM, SIGHUP, SIGINT | wrong status | orphans | leftovers |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        counts = ("kills", "damaged", "other_result", "signals", "wrong_status", "orphans", "leftovers")
        lines.append(f"| {row['command']} | {' | '.join(str(row[key]) for key in counts)} |")
    return "\n".join(lines)


def main(report: Callable[[str], None] = print) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--commands",
        nargs="+",
        choices=list(COMMANDS),
        default=list(COMMANDS),
        metavar="NAME",
        help=", ".join(COMMANDS),
    )
    parser.add_argument("--kills", type=ranged(Count), default=20, help="SIGKILLs per command; default: %(default)s")
    parser.add_argument("--seed", type=ranged(Seed), default=0, help="of the moments; default: %(default)s")
    parser.add_argument("--write", action="store_true", help="write the counts to benchmarks/results/kills.json")
    options = parser.parse_args()
    outcomes = []
    with tempfile.TemporaryDirectory() as inputs:
        prepare(Path(inputs))
        for name in options.commands:
            log(f"… {name}")
            outcomes.append(try_command(name, Path(inputs), options.kills, options.seed))
    rows = [dataclasses.asdict(outcome) for outcome in outcomes]
    report(table(rows))
    if options.write:
        report(str(write_results("kills", rows)))
    sys.exit(any(outcome.faults for outcome in outcomes))


if __name__ == "__main__":
    main()
