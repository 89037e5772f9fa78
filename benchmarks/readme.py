"""Writes the README's tables from the figures of runs, so that no number is typed by hand.

Example:
    python -m benchmarks.readme --demo runs/demo/figures.json --photographs runs/photographs/figures.json
"""

import argparse
import json
import re
from pathlib import Path

from zoo.command import run
from zoo.errors import DataError
from zoo.files import new_file

README = Path(__file__).resolve().parents[1] / "README.md"
RESULTS = Path(__file__).resolve().parent / "results"


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


def parity_table(rows: list[dict]) -> str:
    """The worst model of each arrow."""
    lines = ["| arrow | models | worst max abs | tolerance | worst cosine |", "| --- | ---: | ---: | ---: | ---: |"]
    for arrow in dict.fromkeys(row["arrow"] for row in rows):
        own = [row for row in rows if row["arrow"] == arrow]
        worst, cosine = max(row["max_abs"] for row in own), min(row["cosine"] for row in own)
        lines.append(
            f"| {arrow} | {len(own)} | {worst:.1e} | {own[0]['tolerance']:.0e} | 1 - {max(0.0, 1 - cosine):.0e} |"
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


def full_size_table(results: dict[str, dict]) -> str:
    """Each full-size export: its worst arrow, its last arrow, its time and size."""
    lines = [
        "| model | size | worst arrow | into TF 2.2 | seconds | MB |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, result in results.items():
        worst = max(result["parity"], key=lambda row: row["max_abs"])
        last = next(row["max_abs"] for row in result["parity"] if row["arrow"] == "savedmodel → tf 2.2")
        figures = f"{worst['max_abs']:.1e} ({worst['arrow']}) | {last:.1e} | {result['seconds']:.0f}"
        lines.append(f"| {name} | {result['size']} | {figures} | {result['saved_model_bytes'] / 1e6:.0f} |")
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
    parser.add_argument("--demo", type=Path, required=True, help="figures.json of `make demo`")
    parser.add_argument("--photographs", type=Path, help="figures.json of a run on photographs")
    arguments = parser.parse_args()
    runs = {"demo": json.loads(arguments.demo.read_text())}
    if arguments.photographs:
        runs["photographs"] = json.loads(arguments.photographs.read_text())
    tables = {
        "scores": scores_table(runs),
        "parity": parity_table([row for figures in runs.values() for row in figures["parity"]]),
        "seconds": seconds_table({"demo": runs["demo"]}),
        "full size": full_size_table(json.loads((RESULTS / "full_size.json").read_text())),
    }
    text = replace_tables(README.read_text(encoding="utf-8"), tables)
    with new_file(README) as partial:
        partial.write_text(text, encoding="utf-8")
    print(README)


if __name__ == "__main__":
    run(main)
