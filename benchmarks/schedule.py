"""Does the schedule pay? Trains with and without rising margin and resolution at equal compute, and with several seeds.

Example:
    python -m benchmarks.schedule --data DATA --work runs/schedule --device cuda --precision bfloat16 --at-once 16 --minutes 4
    python -m benchmarks.schedule --data DATA --work runs/quick --device cpu --quick --out runs/quick.json

Four arms: (a) margin and resolution fixed, (b) the margin rises, (c) the resolution rises, (d) both do. All end with the same margin
and are tested at the same resolution. They cost the same: epochs × resolution² is equal within 2 %, in every stage but for the rounding
to whole epochs. Everything else is that of recipes/photographs.yaml. Each training is a process of `torch_models.train`.

Finished trainings are kept in --work, so running the same command again continues. The results are written after every
training. mAP@100 of index and queries is computed in this process, on the same device, by exact search.

Its last line of stdout is the path of the JSON file.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import numpy as np

from benchmarks.results_files import write_results
from benchmarks.schedule_arms import QUICK, Setting, equal_arms
from benchmarks.schedule_scores import Member, ranked_precisions, summary
from benchmarks.schedule_tables import report
from retrieval.data.gldv2 import Gldv2
from retrieval.solution import read_retrieval_solution
from training.execution import Precision, choose_device
from training.recipes import Recipe, read_recipe
from zoo.arguments import given_path, ranged
from zoo.checkpoint import Checkpoint, load_checkpoint
from zoo.command import log, run
from zoo.errors import CheckpointError, ZooError
from zoo.files import write_json
from zoo.processes import ROOT, end, module_command, module_environment
from zoo.strict import Count, Positive
from zoo.text import read_json

RECIPE = ROOT / "recipes" / "photographs.yaml"
SEEDS, QUICK_SEEDS = 5, 2


@dataclass(frozen=True)
class Options:
    """How the trainings run.

    Attributes:
        data: the data set.
        work: folder of the checkpoints.
        device, precision: of the trainings; the device also of the embedding.
        at_once: trainings that run in parallel and share the processors.
        minutes: after so many, the arms of a further model and seed are not begun; None: all are.
    """

    data: Path
    work: Path
    device: str
    precision: str
    at_once: int
    minutes: float | None = None

    @property
    def cores(self) -> int:
        """Processors per training."""
        return max(1, len(os.sched_getaffinity(0)) // self.at_once)


def recipe_changes(setting: Setting, stages: list[dict]) -> list[str]:
    """What replaces values of `RECIPE`, as `torch_models.train --set` takes it."""
    return [f"stages={json.dumps(stages)}", f"test_resolution={setting.test_resolution}"]


class Trainings:
    """The trainings of all arms, models and seeds, as processes.

    Args:
        options: how they run.
        setting: what the arms have in common.
        arms: the stages of each arm.

    Attributes:
        failed: the trainings that ended with an error; their logs tell why.
    """

    def __init__(self, options: Options, setting: Setting, arms: dict[str, list[dict]]) -> None:
        self.options, self.failed = options, list[Member]()
        self._changes = {arm: recipe_changes(setting, stages) for arm, stages in arms.items()}
        self._until = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")
        self._begun: set[tuple[str, int]] = set()
        self._running: list[subprocess.Popen] = []
        self._guard, self._stopping = threading.Lock(), False
        options.work.mkdir(parents=True, exist_ok=True)

    def recipe(self, member: Member) -> Recipe:
        """The recipe of a training."""
        _, arm, seed = member
        return dataclasses.replace(read_recipe(RECIPE, self._changes[arm]), seed=seed)

    def path(self, member: Member, suffix: str = ".safetensors") -> Path:
        """Where a training's files are."""
        return self.options.work / f"{'-'.join(map(str, member))}-{self.options.precision}{suffix}"

    def seconds(self, member: Member) -> float:
        """How long a finished training took, interrupted parts included."""
        return sum(read_json(self.path(member, ".seconds.json"), advice="Remove the training's files from --work."))

    def checkpoint(self, member: Member) -> Checkpoint:
        """A finished training's checkpoint.

        Raises:
            CheckpointError: it was trained by another recipe.
        """
        found = load_checkpoint(self.path(member))
        if found.provenance.get("recipe") != self.recipe(member).digest:
            raise CheckpointError(
                f"{self.path(member)} was trained by another recipe or setting. Choose another --work, or remove it."
            )
        return found

    def run(self, members: Sequence[Member], done: Callable[[list[Member]], None]) -> None:
        """Trains, and calls `done` for members whose checkpoint exists; not for those that are left out or fail."""
        with ThreadPoolExecutor(self.options.at_once) as pool:
            try:
                waiting = {pool.submit(self._train, member): member for member in members}
                while waiting:
                    ended, _ = wait(waiting, return_when=FIRST_COMPLETED)
                    found = [(future.result(), waiting.pop(future)) for future in ended]
                    done([member for finished, member in found if finished])
            except BaseException:
                self._stop()
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _train(self, member: Member) -> bool:
        """Whether the training's checkpoint exists at the end."""
        if self.path(member).exists():
            return True
        if not self._may_begin(member):
            return False
        start = time.perf_counter()
        status = self._wait_for(member)
        seconds = self.path(member, ".seconds.json")
        before = read_json(seconds, advice="Remove it.") if seconds.exists() else []
        write_json(seconds, [*before, round(time.perf_counter() - start, 1)])
        if status and not self._stopping:
            log(f"{self.path(member).stem} failed with status {status}: see {self.path(member, '.log')}")
            self.failed.append(member)
        return not status

    def _may_begin(self, member: Member) -> bool:
        """Whether there is time for the arms of this model and seed; once they are begun, there is for all of them."""
        model, _, seed = member
        with self._guard:
            if not self._stopping and time.monotonic() < self._until:
                self._begun.add((model, seed))
            return not self._stopping and (model, seed) in self._begun

    def _wait_for(self, member: Member) -> int:
        cores = self.options.cores
        environment = module_environment() | {"OMP_NUM_THREADS": str(cores), "TQDM_MININTERVAL": "10"}
        with open(self.path(member, ".log"), "ab") as file:
            process = subprocess.Popen(self._command(member), env=environment, stdout=file, stderr=file)
            self._running.append(process)
            return process.wait()

    def _command(self, member: Member) -> list[str]:
        model, arm, seed = member
        options = self.options
        return module_command(
            *("torch_models.train", "--recipe", RECIPE, "--model", model, "--seed", seed),
            *("--data", options.data, "--out", self.path(member)),
            *("--device", options.device, "--precision", options.precision, "--workers", max(2, options.cores)),
            *("--set", *self._changes[arm]),
        )

    def _stop(self) -> None:
        """Asks the running trainings to save their state and end."""
        self._stopping = True
        for process in self._running:
            if process.poll() is None:
                process.terminate()
        for process in self._running:
            if process.poll() is None:
                end(process)


class Results:
    """The figures of the finished trainings, and of ensembles of them.

    Args:
        trainings: where the checkpoints are.
        models: in the order of the report.
        setting: what the arms have in common.
        arms: the stages of each arm.
    """

    def __init__(
        self, trainings: Trainings, models: Sequence[str], setting: Setting, arms: dict[str, list[dict]]
    ) -> None:
        from benchmarks.schedule_descriptors import RetrievalImages, device_name

        self._trainings, self._models, self._arms = trainings, models, arms
        options = trainings.options
        data = Gldv2(options.data)
        solution = read_retrieval_solution(data.solution_path).everything
        queries = [name for name in data.readable_ids("test") if name in solution]
        self._truth = [solution[name] for name in queries]
        recipe = trainings.recipe((models[0], next(iter(arms)), 0))
        self._images = RetrievalImages(data, queries, recipe.spec(models[0]).preprocess, options.device)
        self._descriptors: dict[Member, Any] = {}
        self._precisions: dict[tuple[Member, ...], np.ndarray] = {}
        count = len(data.train().ids)
        self._setting = dataclasses.asdict(setting) | {
            "models": list(models),
            "device": device_name(options.device),
            "precision": options.precision,
            "torch": version("torch"),
            "at_once": options.at_once,
            "batch_size": recipe.batch_size,
            "images": count,
            "batches": count // recipe.batch_size,
            "index": len(self._images.index_ids),
            "queries": len(queries),
        }

    def add(self, member: Member) -> float:
        """Embeds and scores a finished training. Returns its mAP@100."""
        self._descriptors[member] = self._images.describe(self._trainings.checkpoint(member))
        return float(self._together([member]).mean())

    def figures(self) -> dict[str, Any]:
        """What is known so far, as JSON values."""
        single = {key[0]: value for key, value in self._precisions.items() if len(key) == 1}
        rows = [
            {"model": m, "arm": a, "seed": s, "map100": float(p.mean()), "seconds": self._trainings.seconds((m, a, s))}
            for (m, a, s), p in sorted(single.items(), key=lambda item: (item[0][2], item[0][0]))
        ]
        failed = ["-".join(map(str, member)) for member in self._trainings.failed]
        known = {"setting": self._setting, "arms": self._arms, "trainings": rows, "failed": failed}
        return known | summary(single, self._models, self._together)

    def _together(self, members: Sequence[Member]) -> np.ndarray:
        """AP@100 of each query for the members' concatenated descriptors; computed once."""
        from benchmarks.schedule_descriptors import concatenated

        key = tuple(members)
        if key not in self._precisions:
            index, queries = concatenated([self._descriptors[member] for member in members])
            self._precisions[key] = ranked_precisions(index, self._images.index_ids, queries, self._truth)
        return self._precisions[key]


def measure(options: Options, setting: Setting, models: Sequence[str], seeds: int, out: Path | None) -> Path:
    """Trains and scores; writes the results after every training. Returns their path."""
    arms = equal_arms(setting)
    start = time.perf_counter()
    trainings = Trainings(options, setting, arms)
    results = Results(trainings, models, setting, arms)
    # All arms of a model and seed, one after another, so that those that were run are complete.
    members = [(model, arm, seed) for seed in range(seeds) for model in models for arm in arms]

    def done(found: list[Member]) -> None:
        for member in found:
            score, name = results.add(member), "-".join(map(str, member))
            after = time.perf_counter() - start
            log(f"after {after:.0f} s: {name} took {trainings.seconds(member):.0f} s, mAP@100 {score:.4f}")
        write_results("schedule", results.figures(), out)

    trainings.run(members, done)
    figures = results.figures()
    print(report(figures))
    path = write_results("schedule", figures, out)
    if trainings.failed:
        raise ZooError(
            f"{len(trainings.failed)} trainings failed, and {path} is without them; their errors are in {options.work}"
        )
    return path


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=given_path, help="a data set in the Google Landmarks v2 layout")
    parser.add_argument("--work", required=True, type=given_path, help="folder of the checkpoints, to continue from")
    parser.add_argument("--models", nargs="+", help=f"variants of the zoo. Default: those of {RECIPE.name}")
    parser.add_argument("--seeds", type=ranged(Count), help=f"how many. Default: {SEEDS}")
    parser.add_argument("--epochs", type=ranged(Count), help="per stage, at the last resolution. Default: 8")
    parser.add_argument("--quick", action="store_true", help="a small setting, for trying it on CPUs")
    parser.add_argument("--at-once", type=ranged(Count), default=1, help="trainings in parallel. Default: 1")
    parser.add_argument(
        "--minutes", type=ranged(Positive), help="after so many, no further model and seed is begun; default: no limit"
    )
    parser.add_argument("--out", type=given_path, help="default: benchmarks/results/schedule.json")
    parser.add_argument("--device", default="auto", help="auto (a GPU if there is one), cpu, cuda or cuda:N")
    parser.add_argument(
        "--precision", default="float32", choices=get_args(Precision), help="of the trainings. Default: float32"
    )
    given = parser.parse_args()
    setting = QUICK if given.quick else Setting()
    if given.epochs:
        setting = dataclasses.replace(setting, epochs=given.epochs)
    models, seeds = read_recipe(RECIPE).models, SEEDS
    if given.quick:
        models, seeds = models[:1], QUICK_SEEDS
    device = _device(given.device)
    options = Options(given.data, given.work, device, given.precision, given.at_once, given.minutes)
    print(measure(options, setting, given.models or models, given.seeds or seeds, given.out))


def _device(wanted: str) -> str:
    from torch_models.train import count_gpus

    return choose_device(wanted, count_gpus(), 0)


if __name__ == "__main__":
    run(main)
