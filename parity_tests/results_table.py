"""parity_tests/results/parity.csv: every measured arrow of every network, small and full-size, and the code that made it."""

import csv
from pathlib import Path

from export.parity.rows import Row
from parity_tests.provenance import PARITY, code_hash, made_by
from zoo.files import new_file

RESULTS = Path(__file__).with_name("results") / "parity.csv"
KEY = ("model", "network", "framework")
COLUMNS = (*KEY, "size", "arrow", "max_abs", "cosine", "tolerance", "saved_model_mb", "commit", "code")


def csv_row(row: Row, model: str, network: str, framework: str, size: int, saved_model: Path) -> dict[str, str]:
    """One line of the table.

    Args:
        row: the measured arrow.
        model: a variant.
        network: "full size" or "small".
        framework: whose exporter was used.
        size: side in pixels of the images.
        saved_model: its folder, whose files' sizes are added up.
    """
    figures = {"max_abs": f"{row.max_abs:.2e}", "cosine": f"{row.cosine:.12f}", "tolerance": f"{row.tolerance:.0e}"}
    place = {"model": model, "network": network, "framework": framework, "size": str(size), "arrow": row.arrow}
    stored = sum(path.stat().st_size for path in saved_model.rglob("*") if path.is_file())
    return place | figures | {"saved_model_mb": f"{stored / 1e6:.1f}"} | made_by(PARITY)


def merge(rows: list[dict[str, str]], path: Path = RESULTS) -> None:
    """Replaces the rows of the same networks and frameworks, keeps all others."""

    def key(row: dict[str, str]) -> tuple[str, ...]:
        return tuple(row[column] for column in KEY)

    new = {key(row) for row in rows}
    kept = [row for row in read(path) if key(row) not in new]
    with new_file(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted([*kept, *rows], key=lambda row: (row["network"], row["model"], row["framework"])))


def read(path: Path = RESULTS) -> list[dict[str, str]]:
    """The table's rows; none where it has not been written yet."""
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def is_older(row: dict[str, str]) -> bool:
    """Whether other code than the current one made a row."""
    return row["code"] != code_hash(PARITY)
