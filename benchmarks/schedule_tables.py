"""The report of `benchmarks.schedule`: the tables that it prints and that docs/schedule.md shows."""

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.schedule_arms import ARMS, compute

_NAMES = {
    "fixed": "(a) both fixed",
    "margin": "(b) margin rises",
    "resolution": "(c) resolution rises",
    "both": "(d) both rise",
}


def report(results: dict[str, Any]) -> str:
    """What was run, and all tables, as Markdown."""
    parts = [_setting(results), arms_table(results)]
    if results["scores"]:
        parts += [scores_table(results), differences_table(results["differences"])]
    if results["ensembles"]:
        parts.append(ensembles_table(results["ensembles"]))
    return "\n\n".join(parts)


def _setting(results: dict[str, Any]) -> str:
    setting, trainings = results["setting"], results["trainings"]
    seeds = sorted({row["seeds"] for row in results["scores"]})
    note = f"{len(trainings)} trainings on {setting['device']} ({setting['precision']}, PyTorch {setting['torch']})"
    complete = f"complete in all arms: {' or '.join(map(str, seeds)) if seeds else 'no'} seeds"
    failed = f"; **failed: {len(results['failed'])}**" if results["failed"] else ""
    return (
        f"{note}; {complete}{failed}. {setting['images']:,} training images, {setting['index']:,} in the index, "
        f"{setting['queries']:,} queries at {setting['test_resolution']} px; batches of {setting['batch_size']}."
    )


def arms_table(results: dict[str, Any]) -> str:
    """The stages of each arm, and what it costs."""
    first = compute(results["arms"][next(iter(ARMS))])
    lines = _head("arm", ["margins", "pixels", "epochs", "steps", "compute", "seconds per training"])
    for arm, stages in results["arms"].items():
        epochs = [stage["epochs"] for stage in stages]
        seconds = [row["seconds"] for row in results["trainings"] if row["arm"] == arm]
        cells = [
            " → ".join(map(str, dict.fromkeys(stage[key] for stage in stages))) for key in ("margin", "resolution")
        ]
        cells.append(" + ".join(map(str, epochs)))
        cells += [f"{sum(epochs) * results['setting']['batches']:,}", f"{compute(stages) / first:.3f}"]
        cells.append(f"{sum(seconds) / len(seconds):.0f}" if seconds else "–")
        lines.append(f"| {_NAMES[arm]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def scores_table(results: dict[str, Any]) -> str:
    """Mean ± standard deviation of mAP@100 over the seeds, per model and arm."""
    rows = {(row["model"], row["arm"]): row for row in results["scores"]}
    lines = _head("mAP@100, mean ± deviation over seeds", [_NAMES[arm] for arm in ARMS])
    for model in dict.fromkeys(model for model, _ in rows):
        cells = (rows[model, arm] for arm in ARMS)
        shown = (f"{r['mean']:.4f}" + (f" ± {r['deviation']:.4f}" if r["deviation"] is not None else "") for r in cells)
        lines.append(f"| {model} | {' | '.join(shown)} |")
    return "\n".join(lines)


def differences_table(rows: Sequence[dict]) -> str:
    """The paired differences from the first arm."""
    return _differences_table(
        "difference from (a)", ["model"], rows, lambda row: [_NAMES[row["arm"]], row["model"]], []
    )


def ensembles_table(rows: Sequence[dict]) -> str:
    """Each ensemble beside its best member."""

    def scores(row: dict) -> list[str]:
        return [row["members"], _NAMES[row["arm"]], f"{row['best']:.4f}", f"{row['ensemble']:.4f}"]

    return _differences_table("ensemble", ["arm"], rows, scores, ["best member", "together"])


def _differences_table(
    first: str, words: list[str], rows: Sequence[dict], cells: Callable[[dict], list[str]], numbers: list[str]
) -> str:
    columns = [*words, *numbers, "difference", "95 % over seeds", "95 % over queries", "shown"]
    lines = _head(first, columns, words=len(words), last_is_word=True)
    for row in rows:
        intervals = [_interval(row["over_seeds"]), _interval(row["over_queries"])]
        shown = [*cells(row), f"{row['difference']:+.4f}", *intervals, verdict(row)]
        lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines)


def verdict(row: dict) -> str:
    """Whether the difference is shown: "better" or "worse" if no interval of the difference holds 0, otherwise "no"."""
    intervals = [found for found in (row["over_seeds"], row["over_queries"]) if found]
    if all(low > 0 for low, _ in intervals):
        return "better"
    return "worse" if all(high < 0 for _, high in intervals) else "no"


def _interval(found: list[float] | None) -> str:
    return f"[{found[0]:+.4f}, {found[1]:+.4f}]" if found else "–"


def _head(first: str, columns: list[str], *, words: int = 0, last_is_word: bool = False) -> list[str]:
    """Title and rule of a table: words to the left, numbers to the right."""
    numbers = len(columns) - words - last_is_word
    rules = ["---"] * (1 + words) + ["---:"] * numbers + ["---"] * last_is_word
    return [f"| {' | '.join([first, *columns])} |", f"| {' | '.join(rules)} |"]
