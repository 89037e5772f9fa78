"""Which convolutional networks convert to TensorFlow 2.2: ours and plain onnx2tf side by side, over timm's families.

Examples:
    python -m benchmarks.coverage --work runs/coverage
    python -m benchmarks.coverage --only EfficientNet "ResNet-D"   # prints these rows only

One small member per family, with random weights and measured BatchNorm, from its framework's exporter as ONNX with a fixed image
size and a free batch. Every export and conversion is a process of its own with a time limit: a failure is a row. What is
finished is kept in --work, by the code and the packages that made it, and a later run goes on from there; what took too long or
crashed is tried again. A run of everything writes benchmarks/results/coverage.json.
"""

import argparse
import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import rivals
from benchmarks.coverage_families import EXCLUDED, FAMILIES, NETWORKS, Network
from benchmarks.coverage_networks import MODEL
from benchmarks.coverage_process import CONVERTERS, CURRENT, ONNX2TF, OURS, TF22
from benchmarks.results_files import CODE, write_results
from export import tf22
from parity_tests.provenance import code_hash
from zoo.arguments import given_path, ranged
from zoo.command import log, run
from zoo.manifest import versions
from zoo.processes import end, ended_with, module_command, module_environment
from zoo.strict import Count
from zoo.text import read_json

LARGEST_ERROR = 1e-5
"""The largest relative error (`coverage_process.relative_error`) with which a network counts as converted."""
TIME_LIMIT = 900
"""Seconds for an export, and for a conversion with its runs in both TensorFlows."""
_WHERE = {CURRENT: "current TensorFlow", TF22: "TensorFlow 2.2"}
_MADE_BY = ("benchmarks/coverage_networks.py",)
_MEASURED_BY = {
    OURS: CODE["coverage"],
    ONNX2TF: (*_MADE_BY, "benchmarks/coverage_process.py"),
}


def measure(
    family: str, network: Network, work: Path, time_limit: int, converters: Sequence[str] = tuple(CONVERTERS)
) -> dict:
    """The row of one network: {"family", "member", "size", converter: its row}; steps that `work` has are not repeated."""
    row = {"family": family, "member": network.member, "size": network.size}
    folder = work / re.sub(r"[^a-z0-9]+", "-", f"{family} {network.size}px".lower()).strip("-")
    source = folder / f"network-{code_hash(_MADE_BY)}"
    packages = "-".join(versions("tensorflow", "onnx", "onnxruntime", "onnx2tf").values())
    if not (source / MODEL).is_file():
        log(f"… {family}: export")
        options = ("--family", family, "--size", network.size, "--out", source)
        if failed := _step("coverage_networks", time_limit, *options):
            return row | {name: {"seconds": None, "errors": {}, "failed": {"export": failed}} for name in converters}
    for converter in converters:
        found = folder / f"{converter}-{code_hash(_MEASURED_BY[converter])}-{packages}.json"
        if not found.is_file():
            log(f"… {family}: {converter}")
            options = ("--network", source, "--size", network.size, "--converter", converter, "--out", found)
            if failed := _step("coverage_process", time_limit, *options):
                # Not kept in `work`: the next run may have more time, or a machine with more memory.
                row[converter] = {"seconds": None, "errors": {}, "failed": {"conversion": failed}}
                continue
        row[converter] = read_json(found)
    return row


def _step(module: str, time_limit: int, *options: object) -> str | None:
    """Runs a module of the benchmark, and ends it with all its children at the limit; returns why it failed, or None."""
    environment = module_environment()
    if rivals.is_complete("dynamo"):
        environment["PYTHONPATH"] = os.pathsep.join(
            [environment["PYTHONPATH"], rivals.require("dynamo").variables["PYTHONPATH"]]
        )
    process = subprocess.Popen(
        module_command(f"benchmarks.{module}", *options),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=environment,
    )
    with ended_with(process):
        try:
            _, said = process.communicate(timeout=time_limit)
        except subprocess.TimeoutExpired:
            end(process)
            return f"longer than {time_limit} s"
    lines = [line for line in said.splitlines() if line.strip()]
    return (lines or [f"status {process.returncode}"])[-1].strip()[:300] if process.returncode else None


def converted(row: dict, converter: str, where: str) -> bool:
    """Whether a converter's SavedModel computes the network's descriptors in a TensorFlow."""
    error = row[converter]["errors"].get(where)
    return error is not None and error <= LARGEST_ERROR


def table(rows: Sequence[dict]) -> str:
    """One line per network, and at the end how many of the families are right; "–" stands for what was not measured."""
    head = ["family", "network", "px"]
    for converter in CONVERTERS:
        head += [f"{converter}: current TF", "TF 2.2", "s"]
    lines = [f"| {' | '.join(head)} |", f"| --- | --- |{' ---: |' * (len(head) - 2)}"]
    for row in rows:
        cells = [row["family"], f"`{row['member']}`", str(row["size"])]
        for converter in CONVERTERS:
            found = row.get(converter)
            if found is None:
                cells += ["–"] * 3
                continue
            seconds = "–" if found["seconds"] is None else f"{found['seconds']:.0f}"
            cells += [*(_cell(found, where) for where in (CURRENT, TF22)), seconds]
        lines.append(f"| {' | '.join(cells)} |")
    last = [f"**families at ≤ {LARGEST_ERROR:.0e}**", "", ""]
    for converter in CONVERTERS:
        last += ["**{} of {}**".format(*total(rows, converter, where)) for where in (CURRENT, TF22)] + [""]
    return "\n".join([*lines, f"| {' | '.join(last)} |"])


def total(rows: Sequence[dict], converter: str, where: str) -> tuple[int, int]:
    """How many of timm's families a converter brings into a TensorFlow, and how many were measured."""
    counted = [row for row in rows if row["family"] in FAMILIES and converter in row]
    return sum(converted(row, converter, where) for row in counted), len(counted)


def _cell(found: dict, where: str) -> str:
    """An error; in bold if it is too large, and "fails" if there is none."""
    error = found["errors"].get(where)
    if error is None:
        return "fails"
    return f"{error:.0e}" if error <= LARGEST_ERROR else f"**{error:.0e}**"


def failures(rows: Sequence[dict]) -> str:
    """Why networks fail, by converter, each reason once: a TensorFlow that does not run them, or no conversion at all."""
    reasons: dict[str, list[str]] = {}
    for converter in CONVERTERS:
        for row in rows:
            for where, why in row.get(converter, {"failed": {}})["failed"].items():
                text = f"{converter}, {_WHERE.get(where, where)}: `{why}`"
                # Reasons that differ only in a node's name or a number are the same.
                reasons.setdefault(re.sub(r"'[^']*'|\d+", "…", text), [text]).append(row["family"])
    return "\n".join(f"- {text} ({', '.join(families)})" for text, *families in reasons.values()) or "None does."


def excluded() -> str:
    """Which of timm's networks are not measured, and why."""
    return "\n".join(f"- {why}: {', '.join(names.split())}" for why, names in EXCLUDED.items())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=NETWORKS, metavar="FAMILY", default=list(NETWORKS), help="families"
    )
    parser.add_argument("--size", type=ranged(Count), help="side of the images in pixels; default: each family's own")
    parser.add_argument(
        "--converters", nargs="+", choices=CONVERTERS, default=list(CONVERTERS), help="default: both, side by side"
    )
    parser.add_argument("--time-limit", type=ranged(Count), default=TIME_LIMIT, help="seconds; default: %(default)s")
    parser.add_argument("--work", type=given_path, help="folder of exports and rows, kept and reused")
    parser.add_argument(
        "--out",
        type=given_path,
        help="default: benchmarks/results/coverage.json if all is measured, else only the table is printed",
    )
    arguments = parser.parse_args()
    everything = not arguments.size and (arguments.only, arguments.converters) == (list(NETWORKS), list(CONVERTERS))
    tf22.require_python()
    with tempfile.TemporaryDirectory() as temporary:
        work = (arguments.work or Path(temporary)).absolute()
        rows = []
        for family in arguments.only:
            network = NETWORKS[family]
            network = replace(network, size=arguments.size or network.size)
            rows.append(measure(family, network, work, arguments.time_limit, arguments.converters))
    print(table(rows))
    if everything or arguments.out:
        print(write_results("coverage", rows, arguments.out))


if __name__ == "__main__":
    run(main)
