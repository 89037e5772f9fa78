"""Writes the README's tables from the figures of runs, so that no number is typed by hand.

Example:
    python -m benchmarks.readme --demo runs/demo/figures.json --photographs runs/photographs/figures.json

The tables of models, parity and grouped convolutions come from the zoo itself, parity_tests/results/parity.csv and
benchmarks/results; those of runs stay as they are where no run is given.
"""

import argparse
import json
import re
from pathlib import Path

from benchmarks import export_cost, serving_tables
from benchmarks.results_files import read_results
from export.normal_form.rewrites import block_count
from export.to_savedmodel import FRAMEWORKS
from parity_tests.results_table import read
from parity_tests.small_models import FAMILIES
from zoo.command import run
from zoo.errors import DataError
from zoo.files import new_file
from zoo.tolerances import TOLERANCES
from zoo.variants import SPECS, VARIANTS
from zoo.weights import parameters

README = Path(__file__).resolve().parents[1] / "README.md"


def scores_table(runs: dict[str, dict]) -> str:
    """mAP@100 of each run: untrained, members, their mean, the ensemble."""
    members = list(next(iter(runs.values()))["map100"]["members"])
    lines = ["| mAP@100 | " + " | ".join(runs) + " |", "| --- |" + " ---: |" * len(runs)]

    def row(name: str, value) -> str:
        return f"| {name} | " + " | ".join(f"{value(figures['map100']):.4f}" for figures in runs.values()) + " |"

    lines.append(row("untrained, four together", lambda s: s["untrained"]))
    lines += [
        row(name.replace("_", " ").replace(" narrow", "_narrow"), lambda s, n=name: s["members"][n]) for name in members
    ]
    lines.append(row("members' mean", lambda s: sum(s["members"].values()) / len(s["members"])))
    lines.append(row("**ensemble**", lambda s: s["ensemble"]))
    return "\n".join(lines)


def parity_table(rows: list[dict[str, str]]) -> str:
    """The worst network of each arrow."""
    lines = ["| arrow | networks | worst max abs | tolerance | worst cosine |", "| --- | ---: | ---: | ---: | ---: |"]
    for arrow in (arrow for arrow in TOLERANCES if any(row["arrow"] == arrow for row in rows)):
        own = [row for row in rows if row["arrow"] == arrow]
        networks = len({(row["model"], row["network"], row["framework"]) for row in own})
        worst, cosine = max(float(row["max_abs"]) for row in own), min(float(row["cosine"]) for row in own)
        allowed = TOLERANCES[arrow].max_abs
        lines.append(f"| {arrow} | {networks} | {worst:.1e} | {allowed:.0e} | 1 - {max(0.0, 1 - cosine):.0e} |")
    return "\n".join(lines)


def models_table(rows: list[dict[str, str]]) -> str:
    """Each variant: what it equals, its size, and how far its family's small member is from its framework in TF 2.2."""
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
    """Milliseconds of each layer's grouped convolution as 1 … groups dense ones, beside what the normal form chooses."""
    lines = [
        "| TensorFlow | layer | one dense | one a group | fastest (blocks) | ours (blocks) |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for version, layers in results.items():
        for row in layers:
            times = {int(blocks): ms for blocks, ms in row["ms"].items()}
            groups, fastest = row["groups"], min(times, key=times.get)
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


def full_size_table(rows: list[dict[str, str]]) -> str:
    """Each full-size export: its worst arrow, the whole line into TF 2.2 at each size in pixels, and its size."""
    own = [row for row in rows if row["network"] == "full size"]
    sizes = sorted({int(row["size"]) for row in own})
    lines = [
        "| model | from | worst arrow | " + " | ".join(f"into TF 2.2, {size} px" for size in sizes) + " | MB |",
        "| --- | --- | ---: |" + " ---: |" * (len(sizes) + 1),
    ]
    for model, framework in dict.fromkeys((row["model"], row["framework"]) for row in own):
        mine = [row for row in own if (row["model"], row["framework"]) == (model, framework)]
        worst = max(mine, key=lambda row: float(row["max_abs"]))
        last = {int(row["size"]): row["max_abs"] for row in mine if row["arrow"] == f"{framework} → tf 2.2"}
        cells = " | ".join(f"{float(last[size]):.1e}" for size in sizes)
        arrow = f"{float(worst['max_abs']):.1e} ({worst['arrow']}, {worst['size']} px)"
        lines.append(f"| {model} | {framework} | {arrow} | {cells} | {float(worst['saved_model_mb']):.0f} |")
    return "\n".join(lines)


def replace_tables(text: str, tables: dict[str, str]) -> str:
    """Puts each table between its two marks; a mark that is missing is an error."""
    for name, table in tables.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- /{name} -->)", re.DOTALL)
        if not pattern.search(text):
            raise DataError(
                f"{README} has no place for the table {name!r}: expected <!-- {name} --> … <!-- /{name} -->"
            )
        text = pattern.sub(lambda match, table=table: match[1] + table + match[2], text)
    return text


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, help="figures.json of `make demo`")
    parser.add_argument("--photographs", type=Path, help="figures.json of a run on photographs; both or none")
    arguments = parser.parse_args()
    rows = read()
    tables = {
        "models": models_table(rows),
        "parity": parity_table(rows),
        "full size": full_size_table(rows),
        "grouped": grouped_table(read_results("grouped_convolutions")),
        "serving": serving_tables.table(read_results("serving")),
        "export cost": export_cost.table(read_results("export_cost")),
    }
    paths = {"demo": arguments.demo, "photographs": arguments.photographs}
    runs = {name: json.loads(path.read_text()) for name, path in paths.items() if path}
    if len(runs) == len(paths):
        tables |= {"scores": scores_table(runs), "seconds": seconds_table({"demo": runs["demo"]})}
    text = replace_tables(README.read_text(encoding="utf-8"), tables)
    with new_file(README) as partial:
        partial.write_text(text, encoding="utf-8")
    print(README)


if __name__ == "__main__":
    run(main)
