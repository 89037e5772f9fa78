"""Tries drawn inputs on the project's readers and prints how many of them ended in a fault.

Example:
    python -m tests.reliability.fuzz --examples 2000 --keep faults

A fault is a traceback, more than 20 s, more than 1 GiB of memory beyond the input's size, a crash, something executed or fetched,
or something wrong accepted. --keep writes the inputs at fault. `pytest tests/reliability` tries a fixed number of inputs
of each reader and shrinks the first fault to its smallest input.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from benchmarks.results_files import write_results
from tests.reliability.reader import Files, load, names, write
from tests.reliability.sandbox import Outcome, Sandbox
from zoo.arguments import ranged
from zoo.command import log
from zoo.strict import Count, Seed

CORPUS = Path(__file__).resolve().with_name("corpus")
"""corpus/<reader>/…: inputs that were at fault once, tried first."""


@dataclass
class Tally:
    """What became of the inputs of one reader."""

    tried: int = 0
    accepted: int = 0
    faults: list[tuple[Files, Outcome]] = field(default_factory=list)
    beyond: int = 0
    seconds: float = 0.0

    def add(self, files: Files, outcome: Outcome) -> None:
        """Counts one input."""
        self.tried += 1
        self.accepted += outcome.kind == "accepted"
        if outcome.kind == "fault":
            self.faults.append((files, outcome))
        self.beyond, self.seconds = max(self.beyond, outcome.beyond), max(self.seconds, outcome.seconds)

    def row(self, name: str) -> dict:
        """The figures to publish."""
        return {
            "reader": name,
            "tried": self.tried,
            "accepted": self.accepted,
            "faults": len(self.faults),
            "beyond_mib": round(self.beyond / 2**20),
            "seconds": round(self.seconds, 1),
        }


def table(rows: list[dict]) -> str:
    """One line per reader, and their sum."""
    lines = [
        "| reader | inputs tried | accepted | faults | most memory beyond the input, MiB | longest, s |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        counts = f"{row['tried']:,} | {row['accepted']:,} | {row['faults']}"
        lines.append(f"| {row['reader']} | {counts} | {row['beyond_mib']} | {row['seconds']:.1f} |")
    tried, accepted, faults = (sum(row[key] for row in rows) for key in ("tried", "accepted", "faults"))
    lines.append(f"| **together** | {tried:,} | {accepted:,} | {faults} | | |")
    return "\n".join(lines)


def corpus(name: str) -> Iterator[tuple[str, Files]]:
    """The committed inputs of a reader by name; a folder is an input of several files."""
    for path in sorted((CORPUS / name).glob("*")):
        if path.is_dir():
            yield path.name, {str(f.relative_to(path)): f.read_bytes() for f in path.rglob("*") if f.is_file()}
        else:
            yield path.name, path.read_bytes()


def fuzz(name: str, examples: int, number: int) -> Tally:
    """Tries `examples` drawn inputs on a reader; `number` seeds them."""
    tally = Tally()
    with Sandbox(name) as sandbox:

        @seed(number)
        @drawing(examples, phases=[Phase.generate])
        @given(load(name).files)
        def try_one(files: Files) -> None:
            tally.add(files, sandbox.read(files))
            if tally.tried % 500 == 0:
                log(f"… {name}: {tally.tried} tried, {len(tally.faults)} faults")

        try_one()
    return tally


def drawing(examples: int, **options: object) -> settings:
    """Hypothesis' settings for a reader in another process, whose time does not count."""
    return settings(
        max_examples=examples, database=None, deadline=None, suppress_health_check=list(HealthCheck), **options
    )


def _report(name: str, tally: Tally, keep: Path | None) -> None:
    """Prints what went wrong, and keeps its inputs."""
    for number, (files, outcome) in enumerate(tally.faults):
        log(f"{name}, fault {number}: {outcome.text.strip()[-400:]}")
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            write(files, keep / f"{name}-{number}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--readers", nargs="+", choices=names(), default=names(), metavar="NAME", help="; ".join(names())
    )
    parser.add_argument("--examples", type=ranged(Count), default=1000, help="inputs per reader; default: %(default)s")
    parser.add_argument("--seed", type=ranged(Seed), default=0, help="of the inputs; default: %(default)s")
    parser.add_argument("--keep", type=Path, help="folder for the inputs at fault")
    parser.add_argument("--write", action="store_true", help="write the counts to benchmarks/results/fuzz.json")
    options = parser.parse_args()
    rows = []
    for name in options.readers:
        tally = fuzz(name, options.examples, options.seed)
        rows.append(tally.row(load(name).name))
        _report(name, tally, options.keep)
    print(table(rows))
    if options.write:
        print(write_results("fuzz", rows))
    sys.exit(any(row["faults"] for row in rows))


if __name__ == "__main__":
    main()
