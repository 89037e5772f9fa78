"""The project's only reader of text and of JSON: UTF-8 with or without a byte order mark, limited in size and depth."""

import codecs
import collections
import json
import os
from pathlib import Path
from typing import Any

from zoo.errors import DataError, ZooError
from zoo.inputs import require_file
from zoo.limits import DEPTH, DIGITS, TEXT_BYTES, require_at_most


def read_text(path: str | os.PathLike, *, error: type[ZooError] = DataError, advice: str = "") -> str:
    """The text of a file.

    Args:
        path: the file.
        error: the class of the exception to raise.
        advice: the last sentence of its message: what to do about the file.

    Raises:
        error: the file is missing, cannot be read, is larger than `zoo.limits.TEXT_BYTES` or is not UTF-8.
    """
    path = Path(path)
    require_file(path, "a text file", error, advice)
    try:
        with open(path, "rb") as file:
            raw = file.read(TEXT_BYTES + 1)
        require_at_most(TEXT_BYTES, len(raw), "bytes", path, error)
        return raw.decode("utf-8-sig")
    except (OSError, ValueError) as cause:
        raise error(f"{path} is not a readable UTF-8 text file: {undecodable(cause)}. {advice}".rstrip()) from cause


def undecodable(error: Exception) -> str:
    """Why a text is not UTF-8: spreadsheets and Windows' editors write UTF-16."""
    if isinstance(error, UnicodeDecodeError) and error.object[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return "it is UTF-16; save it as UTF-8"
    return str(error)


def read_json(path: str | os.PathLike, *, error: type[ZooError] = DataError, advice: str = "") -> Any:
    """The value of a JSON file. Arguments and exceptions are those of `read_text`."""
    return parse_json(read_text(path, error=error, advice=advice), path, error=error, advice=advice)


def parse_json(text: str | bytes, where: object, *, error: type[ZooError] = DataError, advice: str = "") -> Any:
    """The value of JSON text.

    Args:
        text: strict JSON: no NaN or infinity, and no key twice in one object.
        where: the name of the text in errors.
        error: the class of the exception to raise.
        advice: the last sentence of its message.

    Raises:
        error: the text is not strict JSON, is nested deeper than `zoo.limits.DEPTH`, or has a number longer than
            `zoo.limits.DIGITS`.
    """
    try:
        value = json.loads(
            text,
            parse_int=_number(int),
            parse_float=_number(float),
            parse_constant=_no_constant,
            object_pairs_hook=_unique,
        )
        _require_text(value, 0)
    except RecursionError:
        raise error(f"{where} is not valid JSON: it is nested too deeply. {advice}".rstrip()) from None
    except ValueError as cause:
        raise error(f"{where} is not valid JSON: {cause}. {advice}".rstrip()) from cause
    return value


def _number(kind: type) -> Any:
    def parse(text: str) -> int | float:
        if len(text) > DIGITS:
            raise ValueError(f"a number of {len(text):,} characters, more than the limit of {DIGITS}")
        return kind(text)

    return parse


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number of JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        [(twice, _)] = collections.Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {twice!r} occurs twice")
    return found


def _require_text(value: Any, depth: int) -> None:
    """Refuses what is nested too deeply, numbers that overflow, and strings that UTF-8 cannot encode."""
    if depth > DEPTH:
        raise ValueError(f"more than {DEPTH} levels of nesting")
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, float) and value in (float("inf"), float("-inf")):
        raise ValueError("a number that is too large")
    elif isinstance(value, dict):
        for key, item in value.items():
            key.encode()
            _require_text(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _require_text(item, depth + 1)
