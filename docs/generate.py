"""Writes the tables of the README and the documentation from the measured figures, so that no number is typed by hand.

Examples:
    python docs/generate.py
    python docs/generate.py --demo runs/demo/figures.json --photographs runs/photographs/figures.json

A table stands between the marks `<!-- NAME -->` and `<!-- /NAME -->` of a page. The sources are the zoo and
the recipes' types, parity_tests/results/parity.csv and benchmarks/results/*.json. `--demo` and `--photographs` first store
the figures of a run there.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

if not __package__:  # run as a file: the packages lie in the repository's root, not in this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import (
    converters,
    coverage,
    data,
    embed,
    export_cost,
    gpu_table,
    head,
    kernels,
    paddle_onednn,
    published,
    report,
    rerank,
    schedule_tables,
    score,
    search,
    serving_tables,
    tensorflows,
    training,
)
from benchmarks.results_files import CODE, read_results, write_results
from benchmarks.results_files import FOLDER as RESULTS
from export.normal_form.grouped import block_count
from parity_tests.provenance import code_hash
from parity_tests.results_table import is_older, read
from parity_tests.small_models import FAMILIES
from retrieval.comparison import SIGNIFICANCE, p_text
from tests.reliability import fuzz, kills
from training.reference import reference
from zoo import contest
from zoo.command import run
from zoo.constants import FRAMEWORKS
from zoo.errors import DataError
from zoo.files import new_file
from zoo.text import read_json
from zoo.tolerances import TOLERANCES
from zoo.variants import SPECS, VARIANTS
from zoo.weights import parameters

ROOT = Path(__file__).resolve().parents[1]
KEPT_FIGURES = ("map100", "seconds", "peak_rss_mib", "data")
"""The parts of a run's figures.json that the pages show."""
RUNS = ("demo", "photographs")

GROUPS: dict[str, tuple[str, Callable[[str], bool]]] = {
    "ResNet": (
        "10 to 200 layers, v1 and v2, the stems of ResNet-B and -C",
        lambda n: n.startswith("resnet") and "vd" not in n,
    ),
    "ResNet-vd (D)": (
        "deep stem and pooled shortcut, 18 to 200 layers",
        lambda n: re.match(r"resnet\d+_vd", n) is not None,
    ),
    "ResNet-T": ("as vd, with timm's tiered stem", lambda n: re.fullmatch(r"resnet\d+t", n) is not None),
    "Wide ResNet": ("50 and 101 layers, twice the width", lambda n: n.startswith("wide")),
    "ResNeXt": ("50 to 152 layers, 32 or 64 groups", lambda n: n.startswith("resnext")),
    "SE-ResNet": ("squeeze-and-excitation, 18 to 269 layers", lambda n: n.startswith("seresnet")),
    "SE-ResNeXt": ("26 to 101 layers", lambda n: n.startswith("seresnext")),
    "IBN-a": ("instance and batch normalisation, 18 to 152 layers", lambda n: n.endswith("ibn_a")),
    "ResNeSt": ("split attention, 14 to 269 layers, and its ablations", lambda n: n.startswith("resnest")),
    "Res2Net": ("hierarchical 3×3 convolutions, 50 to 200 layers", lambda n: n.startswith("res2ne")),
}
"""Family → its description and which variants belong to it; the last family that matches counts."""


def family(name: str) -> str:
    """The family of a variant, as the README's table names it."""
    return next(title for title, (_, belongs) in reversed(GROUPS.items()) if belongs(name))


def families_table() -> str:
    """One row per family: how many variants, what it is, where published weights come from, and an example."""
    lines = ["| family | variants | | weights from | example |", "| --- | ---: | --- | --- | --- |"]
    for title, (description, _) in GROUPS.items():
        members = [name for name in VARIANTS if family(name) == title]
        order = ("torchvision", "timm", "PaddleClas", "paddle.vision", "keras.applications", "ResNeSt", "IBN-Net")
        named = {published.split(" ")[0] for name in members for published in VARIANTS[name].equals}
        sources = ", ".join(sorted(named, key=order.index))  # fails if a publisher has no place in the order
        example = next(name for name in (*EXAMPLES, *members) if name in members)
        lines.append(f"| {title} | {len(members)} | {description} | {sources} | `{example}` |")
    return "\n".join(lines)


EXAMPLES = (
    "resnet50",
    "resnet152_vd",
    "resnest269",
    "res2net200_vd",
    "seresnext50_32x4d",
    "resnext101_32x8d",
    "resnet50_ibn_a",
)


def scores_table(runs: dict[str, dict]) -> str:
    """mAP@100 of each run: untrained, members, their mean, the ensemble; with 95 % intervals if the run has them."""
    members = list(next(iter(runs.values()))["map100"]["members"])
    lines = ["| mAP@100 | " + " | ".join(runs) + " |", "| --- |" + " ---: |" * len(runs)]

    def row(title: str, value: Callable[[dict], float], interval: Callable[[dict], list | None]) -> str:
        cells = [
            _score(value(figures["map100"]), interval(figures["map100"].get("intervals", {})))
            for figures in runs.values()
        ]
        return f"| {title} | " + " | ".join(cells) + " |"

    lines.append(row("untrained, four together", lambda s: s["untrained"], lambda i: i.get("untrained")))
    lines += [
        row(
            name.replace("_", " ").replace(" narrow", "_narrow"),
            lambda s, n=name: s["members"][n],
            lambda i, n=name: i.get("members", {}).get(n),
        )
        for name in members
    ]
    lines.append(row("members' mean", lambda s: _mean(s["members"].values()), lambda i: None))
    lines.append(row("**ensemble**", lambda s: s["ensemble"], lambda i: i.get("ensemble")))
    if any("comparison" in figures["map100"] for figures in runs.values()):
        cells = (_difference(figures["map100"].get("comparison")) for figures in runs.values())
        lines.append("| ensemble minus its best member | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _mean(values) -> float:
    values = list(values)
    return sum(values) / len(values)


def _score(value: float, interval: list | None) -> str:
    return f"{value:.4f}" if interval is None else f"{value:.4f} [{interval[0]:.2f}, {interval[1]:.2f}]"


def _difference(comparison: dict | None) -> str:
    if comparison is None:
        return "–"
    low, high = comparison["interval"]
    shown = "" if comparison["p"] < SIGNIFICANCE else ": not shown"
    return f"{comparison['difference']:+.4f} [{low:+.2f}, {high:+.2f}], {p_text(comparison['p'])}{shown}"


def parity_table(rows: list[dict[str, str]]) -> str:
    """The worst network of each arrow."""
    lines = ["| arrow | networks | worst max abs | tolerance | worst cosine |", "| --- | ---: | ---: | ---: | ---: |"]
    for arrow in (arrow for arrow in TOLERANCES if any(row["arrow"] == arrow for row in rows)):
        own = [row for row in rows if row["arrow"] == arrow]
        worst, cosine = _worst(own), min(float(row["cosine"]) for row in own)
        allowed = TOLERANCES[arrow].max_abs
        lines.append(f"| {arrow} | {_networks(own)} | {worst:.1e} | {allowed:.0e} | 1 - {max(0.0, 1 - cosine):.0e} |")
    return "\n".join(lines)


def _worst(rows: list[dict[str, str]]) -> float:
    return max(float(row["max_abs"]) for row in rows)


def _networks(rows: list[dict[str, str]]) -> int:
    return len({(row["model"], row["network"], row["framework"]) for row in rows})


def _end_to_end(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """The rows from a framework straight into TensorFlow 2.2."""
    return [row for row in rows if row["arrow"] in [f"{framework} → tf 2.2" for framework in FRAMEWORKS]]


def full_size_table(rows: list[dict[str, str]]) -> str:
    """Each full-size export: its worst arrow, the error from the framework into TF 2.2 per image size, and its size on disk."""
    own = [row for row in rows if row["network"] == "full size"]
    sizes = sorted({int(row["size"]) for row in own})
    lines = [
        "| model | from | worst arrow | "
        + " | ".join(f"into TF 2.2, {size} px" for size in sizes)
        + " | MB | commit |",
        "| --- | --- | ---: |" + " ---: |" * (len(sizes) + 1) + " --- |",
    ]
    for model, framework in dict.fromkeys((row["model"], row["framework"]) for row in own):
        mine = [row for row in own if (row["model"], row["framework"]) == (model, framework)]
        worst = max(mine, key=lambda row: float(row["max_abs"]))
        last = {int(row["size"]): float(row["max_abs"]) for row in _end_to_end(mine)}
        cells = " | ".join(f"{last[size]:.1e}" if size in last else "–" for size in sizes)
        arrow = f"{float(worst['max_abs']):.1e} ({worst['arrow']}, {worst['size']} px)"
        commit = f"`{worst['commit']}`" + (" (older code)" if any(map(is_older, mine)) else "")
        lines.append(f"| {model} | {framework} | {arrow} | {cells} | {float(worst['saved_model_mb']):.0f} | {commit} |")
    return "\n".join(lines)


def provenance_table() -> str:
    """Which commit measured each file of benchmarks/results, and whether the code that it depends on has changed since."""
    lines = ["| figures | measured by commit | code since then |", "| --- | --- | --- |"]
    for name in CODE:
        commit, older = _provenance(name)
        lines.append(
            f"| {name.replace('_', ' ')} | `{commit}` | {'changed: older figures' if older else 'unchanged'} |"
        )
    return "\n".join(lines)


def _provenance(name: str) -> tuple[str, bool]:
    """The commit that measured a file of benchmarks/results, and whether the code that it depends on has changed since."""
    made = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["made_by"]
    return made["commit"], made["code"] != code_hash(CODE[name])


def _age(name: str) -> str:
    """What to add to a figure that other code made."""
    commit, older = _provenance(name)
    return f", measured with older code, `{commit}`" if older else ""


def models_table(rows: list[dict[str, str]]) -> str:
    """Each variant: what it equals, its size, and the error into TF 2.2 of a small version of it, from each framework."""
    lines = [
        "| model | equals | parameters | features | torch → TF 2.2 | paddle → TF 2.2 |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    errors = {(row["model"], row["arrow"]): float(row["max_abs"]) for row in rows if row["network"] == "small"}
    for name, variant in VARIANTS.items():
        million = parameters(SPECS[name].headless()) / 1e6
        last = (f"{errors[FAMILIES[name], f'{framework} → tf 2.2']:.0e}" for framework in FRAMEWORKS)
        equals, features = ", ".join(variant.equals) or "–", variant.backbone.features
        lines.append(f"| `{name}` | {equals} | {million:.1f} M | {features} | {' | '.join(last)} |")
    return "\n".join(lines)


def grouped_table(results: dict[str, list[dict]]) -> str:
    """Milliseconds of each grouped convolution written as 1 … groups dense ones, beside what the normal form chooses."""
    lines = [
        "| TensorFlow | layer | one dense | one per group | fastest (blocks) | ours (blocks) |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for version, layers in results.items():
        for row in layers:
            times = {int(blocks): ms for blocks, ms in row["ms"].items()}
            groups, fastest = row["groups"], min(times, key=lambda blocks: times[blocks])
            ours = block_count(groups, row["channels"] // groups)
            layer = f"{row['layer']}, {row['channels']} channels, {row['side']} px"
            ends = f"{times[1]:.1f} | {times[groups]:.1f}"
            lines.append(
                f"| {version} | {layer} | {ends} | {times[fastest]:.1f} ({fastest}) | {times[ours]:.1f} ({ours}) |"
            )
    return "\n".join(lines)


def seconds_table(runs: dict[str, dict]) -> str:
    """Seconds of each step, and the peak memory."""
    steps = list(dict.fromkeys(step for figures in runs.values() for step in figures["seconds"]))
    lines = ["| seconds | " + " | ".join(runs) + " |", "| --- |" + " ---: |" * len(runs)]
    for step in steps:
        cells = (figures["seconds"].get(step) for figures in runs.values())
        lines.append(f"| {step} | " + " | ".join("–" if cell is None else f"{cell:.0f}" for cell in cells) + " |")
    lines.append("| **together** | " + " | ".join(f"{sum(f['seconds'].values()):.0f}" for f in runs.values()) + " |")
    lines.append("| peak memory, MiB | " + " | ".join(f"{f['peak_rss_mib']:.0f}" for f in runs.values()) + " |")
    return "\n".join(lines)


def results_lines(rows: list[dict[str, str]], runs: dict[str, dict]) -> str:
    """The README's lines of results."""
    small, full = _end_to_end(rows), [row for row in _end_to_end(rows) if row["network"] == "full size"]
    serving = read_results("serving")["models"]["resnest50"]
    fastest = {
        place: min(own.values())
        for place in (serving_tables.TODAY, serving_tables.TF22)
        if (own := _one(serving, "ours", place))
    }
    others = _one(serving, "PyTorch", "PyTorch")["eager"], min(_one(serving, "ONNX Runtime", "ONNX Runtime").values())
    costs = {(row["model"], row["framework"]): row for row in read_results("export_cost")}
    cost = [costs[model, "torch"] for model in ("resnet50", "resnest269")]
    demo = runs["demo"]["map100"]
    interval = demo.get("intervals", {}).get("ensemble")
    note = f" (95 % interval {interval[0]:.2f} to {interval[1]:.2f})" if interval else ""
    searched = read_results("search")["contest"]
    layers = max(int(match[1]) for row in full if (match := re.search(r"(\d+)(?=_|$)", row["model"])))
    return "\n".join(
        (
            f"- **Parity**: from PyTorch or Paddle into TensorFlow 2.2, the largest error of any entry over {_networks(small)} "
            f"exports is {_worst(small):.1e} ([tolerance {TOLERANCES['torch → tf 2.2'].max_abs:.0e}](docs/parity.md)); at full size, "
            f"over {_networks(full)} of up to {layers} layers, {_worst(full):.1e} ([table](docs/parity.md#full-size-networks)).",
            f"- **Other networks**: {_covered('ours')} of timm's convolutional families run in TensorFlow 2.2 within "
            f"{coverage.LARGEST_ERROR:.0e}; by plain onnx2tf {_covered('onnx2tf')} ([table](docs/benchmarks.md#coverage)){_age('coverage')}.",
            f"- **Speed**: ResNeSt-50, one 224 px image on two CPU cores: {fastest[serving_tables.TODAY]:.0f} ms in TensorFlow "
            f"2.19, {fastest[serving_tables.TF22]:.0f} ms in 2.2; PyTorch eager {others[0]:.0f} ms, ONNX Runtime "
            f"{others[1]:.0f} ms ([table](docs/benchmarks.md#serving)){_age('serving')}.",
            f"- **Export**, all checks included: ResNet-50 in {cost[0]['seconds']:.0f} s, ResNeSt-269 in "
            f"{cost[1]['seconds']:.0f} s and {cost[1]['peak_mib'] / 1024:.1f} GiB "
            f"([table](docs/benchmarks.md#cost-of-an-export)){_age('export_cost')}.",
            f"- **Retrieval**: mAP@100 of the demo's ensemble {demo['ensemble']:.2f}{note}, of its members "
            f"{_mean(demo['members'].values()):.2f} on average; scores vary between machines "
            f"([why](docs/benchmarks.md#retrieval-scores)){_age('demo')}.",
            f"- **Search**, exact, of the contest's {contest.INDEX_IMAGES:,} × {search.DIMENSIONS} descriptors: {searched['queries']:,} queries in "
            f"{searched['seconds']:.0f} s on two cores; all {contest.QUERIES:,}, extrapolated, in {searched['all_minutes']:.0f} minutes and "
            f"{searched['all_anonymous_gib']:.1f} GiB ([table](docs/benchmarks.md#search)){_age('search')}.",
        )
    )


def _covered(converter: str) -> str:
    """How many of the families a converter brings into TensorFlow 2.2."""
    right, all_of_them = coverage.total(read_results("coverage"), converter, coverage.TF22)
    return f"{right} of {all_of_them}"


def _one(serving: list[dict], peer: str, place: str) -> dict[str, float]:
    """{form: best milliseconds for one image} of a peer."""
    own = (row for row in serving if (row["peer"], row["where"]) == (peer, place) and "1" in row["ms"])
    return {row["form"]: row["ms"]["1"]["best"] for row in own}


def tables() -> dict[str, str]:
    """Every generated text by its name."""
    rows, serving = read(), read_results("serving")
    runs = {name: read_results(name) for name in RUNS}
    return {
        "families": families_table(),
        "results": results_lines(rows, runs),
        "models": models_table(rows),
        "parity": parity_table(rows),
        "full size": full_size_table(rows),
        "kernels": kernels.table(read_results("kernels")),
        "grouped": grouped_table(read_results("grouped_convolutions")),
        "serving": serving_tables.times_table(serving),
        "targets": serving_tables.targets_table(serving),
        "photographs": serving_tables.photos_table(serving),
        "export cost": export_cost.table(read_results("export_cost")),
        "converters": converters.table(read_results("converters")),
        "published networks": published.table(read_results("published")),
        "coverage": coverage.table(read_results("coverage")),
        "coverage failures": coverage.failures(read_results("coverage")),
        "coverage excluded": coverage.excluded(),
        "re-ranking": rerank.table(read_results("rerank")["sets"]),
        "whitening": rerank.whitening_table(read_results("rerank")["sets"]),
        "re-ranking cost": rerank.cost_table(read_results("rerank")["cost"]),
        "training data": data.table(read_results("data")),
        "embedding": embed.table(read_results("embed")),
        "search": search.table(read_results("search")),
        "gpu": gpu_table.table(read_results("gpu")),
        "training": training.table(read_results("training")),
        "head": head.table(read_results("head")["rows"]),
        "paddle onednn": paddle_onednn.table(read_results("paddle_onednn")["rows"]),
        "schedule": schedule_tables.report(read_results("schedule")),
        "scoring": score.table(read_results("score")),
        "recipe keys": reference().strip(),
        "fuzz": fuzz.table(read_results("fuzz")),
        "kills": kills.table(read_results("kills")),
        "report": report.table(read_results("report")),
        "tensorflows": tensorflows.table(read_results("tensorflows")),
        "provenance": provenance_table(),
        "scores": scores_table(runs),
        "seconds": seconds_table({"demo": runs["demo"]}),
    }


def pages(root: Path = ROOT) -> list[Path]:
    """The README and every page of the documentation."""
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


def with_tables(text: str, tables: dict[str, str]) -> str:
    """A page with each of its tables replaced.

    Raises:
        DataError: a mark whose name is no table, or a mark that is not closed.
    """
    for name in re.findall(r"<!-- (?!/)(.+?) -->", text):
        mark = re.escape(name)
        pattern = re.compile(rf"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)", re.DOTALL)
        if name not in tables or not pattern.search(text):
            raise DataError(f"expected <!-- {name} --> … <!-- /{name} --> with one of the names {', '.join(tables)}")
        text = pattern.sub(lambda match, table=tables[name]: f"{match[1]}\n{table}\n\n{match[2]}", text)
    return text


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in RUNS:
        parser.add_argument(
            f"--{name}", type=Path, help=f"figures.json of a new run; stored in benchmarks/results/{name}.json"
        )
    arguments = parser.parse_args()
    for name in RUNS:
        if path := getattr(arguments, name):
            figures = read_json(path, advice="It is written by `python -m pipeline`.")
            write_results(name, {key: figures[key] for key in KEPT_FIGURES})
    generated = tables()
    for page in pages():
        before = page.read_text(encoding="utf-8")
        try:
            after = with_tables(before, generated)
        except DataError as error:
            raise DataError(f"{page}: {error}") from error
        if after != before:
            with new_file(page) as partial:
                partial.write_text(after, encoding="utf-8")
        print(page)


if __name__ == "__main__":
    run(main)
