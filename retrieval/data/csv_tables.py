"""The project's one dialect of CSV: comma, double quotes, UTF-8 with or without a byte order mark, one header line."""

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self, TextIO

from zoo.errors import DataError
from zoo.inputs import require_file
from zoo.limits import TABLE_LINE
from zoo.text import undecodable


def read_rows(
    path: str | os.PathLike, columns: Sequence[str], *, exact: bool = False, advice: str = ""
) -> Iterator[tuple[int, list[str]]]:
    """Yields the line number and the named columns of each row that is not blank.

    Args:
        path: the table.
        columns: the columns to read, in this order.
        exact: the table must have these columns in this order and no others.
        advice: the last sentence of an error: what to do about the file.

    Raises:
        DataError: the file is missing or not CSV in UTF-8, a column is missing, or a row has another number of fields.
    """
    path = Path(path)
    require_file(path, f"a table with the columns {', '.join(columns)}", DataError, advice)
    csv.field_size_limit(TABLE_LINE)  # the module's own limit is 131,072 characters
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = _Lines(file)
            reader = csv.reader(lines)
            header = next(reader, [])
            if exact and header != list(columns):
                raise DataError(f"{path}:1: expected the header {','.join(columns)!r}, found {','.join(header)!r}.")
            if missing := [column for column in columns if column not in header]:
                raise bad_row(path, 1, f"a header with column {missing[0]!r}", ",".join(header))
            if twice := [column for column in columns if header.count(column) > 1]:
                raise bad_row(path, 1, f"one column {twice[0]!r}", ",".join(header))
            wanted = [header.index(column) for column in columns]
            for row in reader:
                lines.taken = 0
                if not row:
                    continue
                if len(row) != len(header):
                    raise bad_row(path, reader.line_num, f"{len(header)} fields", f"{len(row)} in {','.join(row)}")
                yield reader.line_num, [row[position] for position in wanted]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a readable UTF-8 CSV file: {undecodable(error)}. {advice}") from error


class _Lines:
    """The lines of a table. No row takes more than `TABLE_LINE` characters, in one line or, between quotes, in several: a file
    without line feeds, or with a quote that nothing closes, is not read into memory whole.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.taken = 0
        """Characters of the current row; whoever reads the rows sets it to 0 after each."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        line = self._file.readline(TABLE_LINE + 1)
        self.taken += len(line)
        if self.taken > TABLE_LINE:
            raise csv.Error(f"a row is longer than {TABLE_LINE:,} characters")
        if not line:
            raise StopIteration
        return line


def write_rows(path: str | os.PathLike, rows: Iterable[Sequence[object]]) -> None:
    """Writes rows, the header first, with \\n at the end of each line."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def bad_row(path: Path, line: int, expected: str, found: str, advice: str = "") -> DataError:
    """The error of one line."""
    found = found if len(found) <= 80 else found[:77] + "..."
    return DataError(
        f"{path}, line {line}: expected {expected}, found {found!r}. Correct the line, or download the file again. "
        f"{advice}".rstrip()
    )
