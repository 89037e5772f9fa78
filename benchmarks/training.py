"""Times training steps: ours against plain loops with other people's networks, and Paddle against PyTorch.

Example:
    python -m benchmarks.training --rounds 10

The plain loops are those that people write themselves, with timm's network in PyTorch and `paddle.vision`'s in Paddle
(benchmarks/plain_torch.py, benchmarks/plain_paddle.py). They start from our weights and compute our losses, which is checked. Every
side has its own process, which is stopped while the others take their turns. A step begins with a batch of uint8 images and
ends with its loss as a number. The last line of stdout is the path of the JSON file.
"""

import argparse
import contextlib
import dataclasses
import os
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.results_files import write_results
from benchmarks.rivals import Environment
from benchmarks.serving_process import Worker
from benchmarks.training_side import CLIPPED, HALF, OURS, PLAIN, Setting
from zoo.command import log, run
from zoo.errors import ZooError
from zoo.processors import paddle_settings
from zoo.variants import VARIANTS

SETTINGS = (Setting("resnet18", 32, 64), Setting("resnet50", 16, 96), Setting("resnest14", 16, 64))
STEPS = 3
"""Timed steps of a turn; one more before them wakes caches and threads."""
AS_INSTALLED = "ours, as installed"
"""Our trainer in Paddle without the settings of `zoo.processors`."""
_UNSET = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "ACTIVE", "MKL_DEBUG_CPU_TYPE": ""}
"""What Paddle does if nobody sets anything: it sets OMP_NUM_THREADS to 1 itself."""
_LIBRARY = {"torch": "timm ", "paddle": "paddle.vision "}
_APART = 0.05
"""Largest relative difference of two sides' losses of the first steps in float32; a wrong network is off by more."""


@dataclass(frozen=True)
class Side:
    """One of those that take turns: `OURS` … of a framework, with the environment variables of its process."""

    framework: str
    name: str
    variables: dict[str, str] = dataclasses.field(default_factory=dict)


def sides(model: str, threads: int) -> list[Side]:
    """Every side that exists for a model: a plain loop needs a published network."""
    torch = {"OMP_NUM_THREADS": str(threads)}
    given = {"torch": torch, "paddle": paddle_settings() | torch}
    found = []
    for framework, library in _LIBRARY.items():
        peers = (PLAIN, CLIPPED) if any(name.startswith(library) for name in VARIANTS[model].equals) else ()
        found += [Side(framework, name, given[framework]) for name in (OURS, *peers)]
    # In Paddle, bfloat16 has no effect on CPUs.
    return [*found, Side("torch", HALF, torch), Side("paddle", AS_INSTALLED, _UNSET)]


def measure(setting: Setting, threads: int, rounds: int, folder: Path) -> dict:
    """What is measured of one model: {"model", "batch", "size", "versions", "sides": [one row per side]}.

    Raises:
        ZooError: a side could not be started, or computes something else.
    """
    chosen, seconds, losses, versions = sides(setting.model, threads), {}, {}, {}
    with contextlib.ExitStack() as stack:
        workers = {}
        for number, side in enumerate(chosen):
            name = OURS if side.name == AS_INSTALLED else side.name
            job = {"framework": side.framework, "side": name, "setting": dataclasses.asdict(setting)}
            environment = Environment(Path(sys.executable), side.variables)
            worker = Worker(
                environment, ("-m", "benchmarks.training_side"), job, folder / f"{setting.model}_{number}.log"
            )
            stack.callback(worker.close)
            if worker.error:
                raise ZooError(f"{setting.model}, {side.framework}, {side.name}: {worker.error}")
            versions |= worker.versions
            workers[number] = worker
        for turn in range(rounds):
            for number in sorted(workers, key=lambda n: (n + turn) % len(workers)):
                answer = workers[number].ask(steps=1 + STEPS)
                if "error" in answer:
                    raise ZooError(f"{setting.model}, {chosen[number]}: {answer['error']}")
                seconds.setdefault(number, []).append(answer["seconds"][1:])
                losses.setdefault(number, answer["losses"])
            log(f"{setting.model}: round {turn + 1} of {rounds}")
    _require_same([losses[number] for number in workers], setting.model)
    rows = [
        {"framework": side.framework, "side": side.name} | _figures(seconds[number])
        for number, side in enumerate(chosen)
    ]
    return {
        "model": setting.model,
        "batch": setting.batch,
        "size": setting.size,
        "versions": versions,
        "sides": rows,
    }


def _require_same(losses: list[list[float]], model: str) -> None:
    """The first losses of all sides, before rounding and clipping take them apart."""
    first = [values[0] for values in losses]
    if max(first) - min(first) > _APART * max(first):
        raise ZooError(f"{model}: the sides do not compute the same first loss: {first}")


def _figures(turns: list[list[float]]) -> dict:
    """Milliseconds of a step: the best, the median, and each turn's median, which is compared with the same turn of others."""
    every = [1000 * seconds for turn in turns for seconds in turn]
    return {
        "best_ms": round(min(every), 1),
        "median_ms": round(statistics.median(every), 1),
        "turns_ms": [round(1000 * statistics.median(turn), 1) for turn in turns],
    }


def speed(row: dict, other: dict) -> float:
    """How many times as fast as another side a side is: the median over the turns, which both had under the same load."""
    return statistics.median(theirs / ours for ours, theirs in zip(row["turns_ms"], other["turns_ms"], strict=True))


def table(results: dict) -> str:
    """One line per model and framework."""
    head = [
        *("network", "batch", "framework", "ours, ms", "plain loop, ms", "against it", "against it with clipping"),
        *("against PyTorch", "bfloat16 against float32", "as installed against ours"),
    ]
    lines = [f"| {' | '.join(head)} |", "| --- | --- | --- |" + " ---: |" * (len(head) - 3)]
    for model in results["models"]:
        rows = {(row["framework"], row["side"]): row for row in model["sides"]}
        for framework in _LIBRARY:
            ours, shape = (framework, OURS), f"{model['batch']} × {model['size']} px"
            ratios = [
                (ours, (framework, PLAIN)),
                (ours, (framework, CLIPPED)),
                (ours if framework == "paddle" else None, ("torch", OURS)),
                ((framework, HALF), ours),
                ((framework, AS_INSTALLED), ours),
            ]
            times = [_time(rows.get(side)) for side in (ours, (framework, PLAIN))]
            cells = [_ratio(rows.get(one), rows.get(other)) for one, other in ratios]
            lines.append(f"| {' | '.join([model['model'], shape, framework, *times, *cells])} |")
    return "\n".join(lines)


def _time(row: dict | None) -> str:
    return f"{row['best_ms']:.0f} ({row['median_ms']:.0f})" if row else "–"


def _ratio(one: dict | None, other: dict | None) -> str:
    return f"{speed(one, other):.2f}×" if one and other else "–"


def _processor() -> str:
    """The processor's name as /proc/cpuinfo has it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return "unknown"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=[setting.model for setting in SETTINGS], help="default: all")
    parser.add_argument("--threads", type=int, default=2, help="of each process. Default: 2")
    parser.add_argument("--rounds", type=int, default=10, help=f"turns of {STEPS} steps of every side. Default: 10")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/training.json")
    given = parser.parse_args()
    chosen = [setting for setting in SETTINGS if not given.models or setting.model in given.models]
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        models = [measure(setting, given.threads, given.rounds, Path(folder)) for setting in chosen]
    results = {
        "processor": _processor(),
        "threads": given.threads,
        "load": [round(before, 1), round(os.getloadavg()[0], 1)],
        "note": "On Intel's processors MKL_DEBUG_CPU_TYPE is not set, so `as installed` differs in the threads only.",
        "models": models,
    }
    print(table(results))
    print(write_results("training", results, given.out))


if __name__ == "__main__":
    run(main)
