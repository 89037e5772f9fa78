"""Prints a reference of all keys of a recipe as Markdown.

Example:
    python -m training.reference > docs/recipe-keys.md
"""

import dataclasses
import re
import types
import typing
from typing import Any

from msgspec import Meta

from training.recipes import Augmentation, Recipe, Stage
from zoo.command import run
from zoo.specs import HeadSpec, LossSpec

SECTIONS: dict[str, type] = {
    "Recipe": Recipe,
    "Each entry of `stages`": Stage,
    "`augmentation`": Augmentation,
    "`head`": HeadSpec,
    "`loss`": LossSpec,
}


def reference() -> str:
    """Markdown with a section per mapping of a recipe: a table of its keys, with type, range, default and meaning."""
    return "\n\n".join(f"## {title}\n\n{_table(kind)}" for title, kind in SECTIONS.items()) + "\n"


def _table(kind: Any) -> str:
    hints, meanings = typing.get_type_hints(kind, include_extras=True), _meanings(kind)
    lines = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    for field in dataclasses.fields(kind):
        lines.append(f"| `{field.name}` | {_type(hints[field.name])} | {_default(field)} | {meanings[field.name]} |")
    return "\n".join(lines)


def _type(hint: Any) -> str:
    """A type in the words of a YAML author, with its range."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        bounds = [text for meta in arguments[1:] if isinstance(meta, Meta) for text in _bounds(meta)]
        return f"{_type(arguments[0])}{', ' if bounds else ''}{', '.join(bounds)}"
    if origin is typing.Literal:
        return "one of " + ", ".join(f"`{value}`" for value in arguments)
    if origin is types.UnionType or origin is typing.Union:
        return _type(next(argument for argument in arguments if argument is not type(None)))
    if origin is list:
        return f"list of {_type(arguments[0])}"
    if origin is tuple:
        return f"{len(arguments)} × {_type(arguments[0])}"
    names = {int: "integer", float: "number", str: "text", bool: "`true` or `false`"}
    return names.get(hint, "mapping, see below")


def _bounds(meta: Meta) -> list[str]:
    """The bounds of a field. Those near the largest 64-bit integer are left out: they are no real restriction."""
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    found = {sign: getattr(meta, name) for name, sign in signs.items() if getattr(meta, name) is not None}
    return [f"{sign} {value:.6g}" for sign, value in found.items() if value not in (2**62, 2**63 - 1)]


def _default(field: dataclasses.Field) -> str:
    if field.default is not dataclasses.MISSING:
        value = field.default
        if isinstance(value, tuple):
            return f"`[{', '.join(map(str, value))}]`"
        return f"`{str(value).lower() if isinstance(value, bool) else 'null' if value is None else value}`"
    return "required" if field.default_factory is dataclasses.MISSING else "the defaults below"


def _meanings(kind: type) -> dict[str, str]:
    """{attribute: text} of the section "Attributes" of a docstring."""
    section = (kind.__doc__ or "").partition("Attributes:\n")[2]
    entries = re.split(r"\n {8}(?=\w+(?:, \w+)*: )", "\n" + section)
    found = {}
    for entry in entries[1:]:
        names, _, text = entry.partition(": ")
        meaning = re.sub(r"\s+", " ", text.partition("\n\n")[0]).strip()
        found |= dict.fromkeys(names.split(", "), meaning.replace("|", "\\|"))
    return found


def main() -> None:
    """Command line."""
    print(reference(), end="")


if __name__ == "__main__":
    run(main)
