"""`benchmarks/results/serving.json` as Markdown tables: times, targets, and the contest's images."""

import textwrap
from dataclasses import dataclass

from zoo import contest

TF22, TODAY, NOBUCO_TF = "tf 2.2", "current tf", "tf 2.15"
PHOTO_CASE = "photo"
"""The case of one uint8 photograph through the contest's signature; all other cases are batch sizes."""
OWN_FORMS = ("ours", "ONNX Runtime", "PyTorch", "Paddle")
"""Peers that get a row per form; for all others, whose forms are the same network, only the fastest is kept."""


@dataclass(frozen=True)
class Target:
    """Our best time at every batch size should be at most `at_most` times a peer's: its fastest form's, or `form`'s."""

    model: str
    ours: str
    peer: str
    where: str
    at_most: float
    form: str | None = None


TARGETS = (
    Target("resnet50", TODAY, "keras.applications", TODAY, 0.60),
    Target("resnet50", TF22, "keras.applications", TF22, 0.85),
    Target("resnest50", TODAY, "keras-cv-attention-models", TODAY, 0.65),
    Target("resnest50", TODAY, "nobuco", NOBUCO_TF, 0.45),
    Target("resnest50", TODAY, "PyTorch", "PyTorch", 0.80, form="eager"),
    *(
        Target(model, place, "ONNX Runtime", "ONNX Runtime", at_most)
        for model in ("resnet50", "resnest50")
        for place, at_most in ((TODAY, 1.12), (TF22, 1.35))
    ),
)


def batches(rows: list[dict]) -> list[str]:
    """The batch sizes that rows were timed at, in order."""
    return sorted({case for row in rows for case in row["ms"] if case != PHOTO_CASE}, key=int)


def kept_rows(rows: list[dict]) -> list[dict]:
    """One row per peer and place: the form with the least time over all batch sizes; every form of `OWN_FORMS`."""
    rows = [row for row in rows if PHOTO_CASE not in row["ms"]]
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        own = row["form"] if row["peer"] in OWN_FORMS else None
        groups.setdefault((row["peer"], row["where"], own), []).append(row)

    def together(row: dict) -> float:
        return sum(times["best"] for times in row["ms"].values()) if row["ms"] else float("inf")

    return [min(group, key=together) for group in groups.values()]


def times_table(results: dict) -> str:
    """Milliseconds per contender: the best round, with the median in brackets."""
    cases = batches([row for model in results["models"].values() for row in model])
    lines = [
        "| model | network | runs in | " + " | ".join(f"batch {case}, ms" for case in cases) + " | |",
        "| --- | --- | --- |" + " ---: |" * len(cases) + " --- |",
    ]
    for model, rows in results["models"].items():
        for row in kept_rows(rows):
            cells = [f"{t['best']:.0f} ({t['median']:.0f})" if (t := row["ms"].get(case)) else "–" for case in cases]
            shared = (
                row["error"] and row["peer"] not in OWN_FORMS
            )  # every form of a converter failed: its first error is shown
            name = row["peer"] if shared else f"{row['peer']}, {row['form']}"
            lines.append(f"| {model} | {name} | {_place(row)} | {' | '.join(cells)} | {_note(row)} |")
    return "\n".join(lines)


def targets_table(results: dict) -> str:
    """Our best time divided by each named peer's, and the target for that ratio."""
    cases = batches([row for model in results["models"].values() for row in model])
    lines = [
        "| model | ours in | against | at most | " + " | ".join(f"batch {case}" for case in cases) + " |",
        "| --- | --- | --- | ---: |" + " ---: |" * len(cases),
    ]
    for target in (target for target in TARGETS if target.model in results["models"]):
        ratios = target_ratios(target, results["models"][target.model])
        cells = (_verdict(ratios.get(case), target.at_most) for case in cases)
        peer = target.peer + (f", {target.form}" if target.form else "")
        place = "" if target.where == target.peer else f" in {target.where}"
        lines.append(f"| {target.model} | {target.ours} | {peer}{place} | {target.at_most:.2f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def target_ratios(target: Target, rows: list[dict]) -> dict[str, float]:
    """{batch size: our best time divided by the peer's best}, for the batch sizes that both have."""
    ours = _best(rows, "ours", target.ours, None)
    theirs = _best(rows, target.peer, target.where, target.form)
    return {case: ours[case] / theirs[case] for case in ours if case in theirs}


def photos_table(results: dict) -> str:
    """Images per second through the contest's signature, one image per call, and the hours that the contest's images take."""
    height, width = results["photo"]
    lines = [
        f"| model | runs in | {width}×{height} photographs per second | hours for {contest.IMAGES:,} |",
        "| --- | --- | ---: | ---: |",
    ]
    for model, rows in results["models"].items():
        for row in (row for row in rows if PHOTO_CASE in row["ms"]):
            rate = 1000 / row["ms"][PHOTO_CASE]["median"]
            lines.append(f"| {model} | {_place(row)} | {rate:.1f} | {contest.IMAGES / rate / 3600:.1f} |")
    return "\n".join(lines)


def table(results: dict) -> str:
    """All tables, one below the other."""
    return "\n\n".join((times_table(results), targets_table(results), photos_table(results)))


def _best(rows: list[dict], peer: str, where: str, form: str | None) -> dict[str, float]:
    """{batch size: best milliseconds} over all forms of a peer, or of `form` only."""
    found: dict[str, float] = {}
    for row in rows:
        if (row["peer"], row["where"]) == (peer, where) and form in (None, row["form"]):
            for case, times in row["ms"].items():
                found[case] = min(times["best"], found.get(case, float("inf")))
    return found


def _verdict(ratio: float | None, at_most: float) -> str:
    if ratio is None:
        return "–"
    return f"{ratio:.2f} {'met' if ratio <= at_most else '**missed**'}"


def _place(row: dict) -> str:
    """The place with its version, if the process started far enough to report it."""
    version = row["versions"].get("tensorflow") or next(iter(row["versions"].values()), None)
    if "tf" in row["where"].split():
        return f"TensorFlow {version or row['where'].removeprefix('tf ')}"
    return f"{row['peer']} {version}" if version else row["where"]


def _note(row: dict) -> str:
    if row["error"]:
        return textwrap.shorten(row["error"].replace("|", "\\|"), 100, placeholder=" …")
    return "own weights" if row["max_abs"] is None else ""
