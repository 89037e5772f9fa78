"""The full pipeline, from photographs to a packed submission, and the figures of a finished run."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import psutil

from pipeline.next_command import search_page_command
from pipeline.run_folder import CHECKPOINTS, RUN, claim, identify, read_parity, require_own_images
from pipeline.steps import Steps
from retrieval.comparison import sentence
from retrieval.data.gldv2 import Gldv2
from retrieval.embeddings import concatenate
from retrieval.evaluate import evaluate
from retrieval.ranking import write_predictions
from retrieval.solution import read_retrieval_solution, require_relevant_in_index
from retrieval.store import COMPLETE, Store, in_memory
from retrieval.viewer.figures import Run
from retrieval.viewer.make_report import make_report
from retrieval.viewer.report import write_report
from retrieval.viewer.similarities import Sides
from training.history import read_history
from training.recipes import Recipe, read_recipe
from zoo.checkpoint import Checkpoint, save_checkpoint
from zoo.claims import claimed
from zoo.command import log
from zoo.constants import FRAMEWORKS
from zoo.files import write_json
from zoo.inputs import real_path
from zoo.processes import ROOT
from zoo.weights import initial_weights

CORES = os.cpu_count() or 1
DEMO_RECIPE = ROOT / "recipes" / "demo.yaml"
"""The default recipe, in a checkout and in an installed wheel. Not found through `importlib.resources`: `recipes` has no
`__init__.py`, so a folder `recipes` in the working directory could be taken instead."""
DEMO_COMMANDS = ("make demo", "make test")
"""Print every figure of the demo's report again."""
PREDICTIONS = "predictions.csv"
"""The ensemble's ranking, in the folder of a run."""
EXPORT_BYTES = 2800 * 2**20
"""Peak memory of an export with all its checks: ResNet-50's, in benchmarks/results/export_cost.json."""


@dataclasses.dataclass(frozen=True)
class Member:
    """One model in one framework; members differ in their seed, which makes a better ensemble."""

    model: str
    framework: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.model}_{self.framework}"


def run_pipeline(recipe_path: Path, data: Path | None, out: Path, kaggle_owner: str) -> Path:
    """Runs every step that is not finished; returns the report's path.

    Args:
        recipe_path: models and training schedule.
        data: a data set in the Google Landmarks v2 layout; None renders a small one.
        out: folder of this run; relative paths are the caller's.
        kaggle_owner: Kaggle user name in the packed submission.

    Raises:
        OutputError: `out` is not empty and not an earlier run with the same recipe and data.
        ZooError: a step failed.
    """
    recipe = read_recipe(recipe_path)
    data = real_path(data) if data else None  # run.json records it, and a run may be resumed from another directory
    identity = identify(recipe, data)
    with claimed(out / RUN):  # one pipeline at a time works in a folder
        claim(out, identity)
        return _run(recipe_path, recipe, data, out, kaggle_owner)


def _run(recipe_path: Path, recipe: Recipe, data: Path | None, out: Path, kaggle_owner: str) -> Path:
    variants = [(model, framework) for model in recipe.models for framework in FRAMEWORKS]
    members = [Member(*variant, seed=recipe.seed + number) for number, variant in enumerate(variants)]
    checkpoints = [out / CHECKPOINTS / f"{member.name}.safetensors" for member in members]
    with Steps(out) as steps:
        if data is None:
            data = out / "data"
            steps.run("demo data", [("retrieval.demo", "--out", data)], [data])
            require_own_images(out, Gldv2(data))
        dataset = Gldv2(data)
        untrained = _untrained(steps, recipe, dataset, members)
        _train(steps, recipe_path, dataset, members, checkpoints)
        exports = _export(steps, members, checkpoints)
        ensemble, stores = _combine(steps, dataset, exports)
        index, queries = (in_memory(Store.open(path)) for path in stores)
        solution = read_retrieval_solution(dataset.solution_path)
        require_relevant_in_index(dataset, solution, index.ids)
        truth = solution.everything
        ranking, scores = evaluate(index, queries, truth, [member.name for member in members])
        write_predictions(out / PREDICTIONS, ranking)
        upload = _pack(steps, ensemble, dataset, kaggle_owner)
    train = dataset.train()
    figures = {
        "map100": {"untrained": untrained} | scores,
        "parity": [row for made in (*exports, ensemble) for row in read_parity(made)],
        "seconds": steps.seconds,
        "peak_rss_mib": steps.peak_rss_mib,
        "sizes": _sizes(checkpoints, exports, ensemble, upload),
        "data": {
            "train": len(train.ids),
            "classes": len(train.landmark_ids),
            "index": len(index.ids),
            "queries": len(queries.ids),
        },
    }
    write_json(out / "figures.json", figures)
    curves = {m.name: read_history(c) for m, c in zip(members, checkpoints, strict=True)}
    report = out / "report.html"
    made = make_report(
        f"landmark-zoo: {out.name}",
        dataset,
        ranking,
        solution,
        Sides(index, queries),
        with_map=True,
        configuration={"Data set": dataset.root.name, "Recipe": recipe_path.name, "Seed": str(recipe.seed)},
        run=Run(figures, curves, DEMO_COMMANDS if dataset.root == out / "data" else ()),
    )
    write_report(report, made)
    _summarise(figures)
    log(f"search   {search_page_command(ensemble / 'saved_model', stores[0], data)}")
    return report


def at_once(bytes_each: int, available: int | None = None) -> int:
    """How many processes of `bytes_each` bytes fit into the available memory: at least 1, at most one per core."""
    available = psutil.virtual_memory().available if available is None else available
    return min(CORES, max(1, available // bytes_each))


def _train(
    steps: Steps, recipe_path: Path, dataset: Gldv2, members: Sequence[Member], checkpoints: Sequence[Path]
) -> None:
    commands = [
        (f"{m.framework}_models.train", "--recipe", recipe_path, "--data", dataset.root)
        + ("--model", m.model, "--seed", m.seed, "--out", checkpoint)
        for m, checkpoint in zip(members, checkpoints, strict=True)
    ]
    # Paddle's CPU convolutions use one core, so each training gets one, and one training per core runs at a time.
    steps.run("training", commands, checkpoints, at_once=CORES)


def _export(steps: Steps, members: Sequence[Member], checkpoints: Sequence[Path]) -> list[Path]:
    """The folders that `export.to_savedmodel` makes, one per member."""
    exports = [steps.folder / "exports" / member.name for member in members]
    commands = [("export.to_savedmodel", "--ckpt", c, "--out", e) for c, e in zip(checkpoints, exports, strict=True)]
    steps.run("export and parity", commands, exports, at_once=at_once(EXPORT_BYTES))
    return exports


def _combine(steps: Steps, dataset: Gldv2, exports: Sequence[Path]) -> tuple[Path, list[Path]]:
    """The ensemble's folder, and its stores of the index and of the queries."""
    ensemble = steps.folder / "ensemble"
    members = [export / "saved_model" for export in exports]
    steps.run("ensemble", [("export.ensemble", "--members", *members, "--out", ensemble)], [ensemble])
    stores = {split: steps.folder / "embeddings" / split for split in ("index", "test")}
    commands = [
        ("export.embed", "--saved-model", ensemble / "saved_model", "--data", dataset.root)
        + ("--split", split, "--out", path, "--dtype", "float32")  # ranks as TensorFlow 2.2 does, to the last place
        for split, path in stores.items()
    ]
    steps.run("embedding", commands, [path / COMPLETE for path in stores.values()], at_once=CORES)
    return ensemble, list(stores.values())


def _pack(steps: Steps, ensemble: Path, dataset: Gldv2, kaggle_owner: str) -> Path:
    """The folder to upload. TensorFlow 2.2, if there is one, must rank the data set as the run did."""
    upload = steps.folder / "submission"
    options = ("--saved-model", ensemble / "saved_model", "--owner", kaggle_owner, "--out", upload, "--overwrite")
    ranked = ("--data", dataset.root, "--predictions", steps.folder / PREDICTIONS)
    steps.run("submission", [("submission.pack", *options, *ranked)], [upload / "submission.zip"])
    return upload


def _untrained(steps: Steps, recipe: Recipe, dataset: Gldv2, members: list[Member]) -> float:
    """mAP@100 of the ensemble of the same networks before their first training step, each run by its own framework."""
    folder = steps.folder / "untrained"
    commands, stores = [], []
    for member in members:
        path = folder / f"{member.name}.safetensors"
        if not path.exists():
            spec = recipe.spec(member.model)
            provenance = {"framework": member.framework, "steps": 0}
            save_checkpoint(path, Checkpoint(spec, initial_weights(spec, (), member.seed), 0, provenance))
        for split in ("index", "test"):
            store = folder / f"{member.name}_{split}"
            options = ("--ckpt", path, "--data", dataset.root, "--split", split, "--out", store)
            commands.append((f"{member.framework}_models.embed", *options))
            stores.append(store)
    steps.run("untrained networks", commands, [store / COMPLETE for store in stores], at_once=CORES)
    index, queries = (concatenate([in_memory(Store.open(store)) for store in stores[start::2]]) for start in (0, 1))
    truth = read_retrieval_solution(dataset.solution_path).everything
    return evaluate(index, queries, truth, [])[1]["ensemble"]


def _sizes(checkpoints: list[Path], exports: list[Path], ensemble: Path, upload: Path) -> dict[str, int]:
    """Sizes in bytes of the files that a user keeps."""

    def below(folder: Path) -> int:
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

    sizes = {f"checkpoint {path.stem}": path.stat().st_size for path in checkpoints}
    sizes |= {f"SavedModel {path.name}": below(path / "saved_model") for path in exports}
    return sizes | {
        "SavedModel ensemble": below(ensemble / "saved_model"),
        "submission.zip": (upload / "submission.zip").stat().st_size,
    }


def _summarise(figures: dict) -> None:
    scores = figures["map100"]
    intervals = scores["intervals"]
    log(f"\nmAP@100  untrained {scores['untrained']:.4f}")
    for name, score in scores["members"].items():
        log(f"         {name} {score:.4f} {_shown(intervals['members'][name])}")
    mean = sum(scores["members"].values()) / len(scores["members"])
    log(
        f"         members' mean {mean:.4f}\n         ensemble {scores['ensemble']:.4f} {_shown(intervals['ensemble'])}"
    )
    for key in ("comparison", "comparison_with_mean"):
        log(f"         ensemble minus {scores[key]['against']} {sentence(scores[key])}")
    log("         with 95 % intervals over the queries; scores also vary between machines, whose rounding differs")
    worst = max(figures["parity"], key=lambda row: row["max_abs"] / row["tolerance"])
    arrow = f"{worst['max_abs']:.1e}: {worst['arrow']} of {worst['model']}"
    log(f"parity   {len(figures['parity'])} arrows within tolerance; worst {arrow}")
    log(f"time     {sum(figures['seconds'].values()):.0f} s, peak memory {figures['peak_rss_mib']:.0f} MiB")


def _shown(interval: list[float]) -> str:
    return f"[{interval[0]:.2f}, {interval[1]:.2f}]"
