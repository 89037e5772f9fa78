"""The project's only reader of YAML: plain values, bounded in size and depth, with YAML 1.2's numbers.

Only mappings, lists, text, numbers, true, false and null are made. Aliases are refused, because a few lines of them can stand for
billions of values, and so are tags, a key twice, and several documents.
"""

import os
import re
from typing import Any

import yaml

from zoo.errors import DataError, ZooError
from zoo.limits import DEPTH, DIGITS, YAML_BYTES, require_at_most
from zoo.text import read_text

_TAG = "tag:yaml.org,2002:"


def read_yaml(path: str | os.PathLike, *, error: type[ZooError] = DataError, advice: str = "") -> Any:
    """The value of a YAML file.

    Args:
        path: the file.
        error: the class of the exception to raise.
        advice: the last sentence of its message.

    Raises:
        error: the file is missing, larger than `zoo.limits.YAML_BYTES`, nested deeper than `zoo.limits.DEPTH`, not one YAML
            document, or has an alias, a tag or a key twice. The message names the line.
    """
    return parse_yaml(read_text(path, error=error, advice=advice), path, error=error, advice=advice)


def parse_yaml(text: str, where: object, *, error: type[ZooError] = DataError, advice: str = "") -> Any:
    """The value of a YAML text; `where` names it in errors, which are those of `read_yaml`."""
    require_at_most(YAML_BYTES, len(text), "characters", where, error)
    try:
        return _Loader(text).get_single_data()
    except RecursionError:
        raise error(f"{where} is nested too deeply. {advice}".rstrip()) from None
    except (yaml.YAMLError, ValueError, OverflowError, DataError) as cause:
        raise error(f"{where}: {_in_one_line(cause)}. {advice}".rstrip()) from cause


def line_of(path: str | os.PathLike, key: str) -> int | None:
    """The line of a value in a YAML file that `read_yaml` accepts, or of the innermost value around it that exists.

    Args:
        path: the file.
        key: names and positions from the root, for example `stages[0].margin`.

    Returns:
        The line, from 1; None if nothing of the key exists.
    """
    node, line = _Loader(read_text(path)).get_single_node(), None
    for name, position in re.findall(r"([^.\[\]]+)|\[(\d+)\]", key):
        if isinstance(node, yaml.MappingNode):
            node = next((value for found, value in node.value if found.value == name), None)
        elif isinstance(node, yaml.SequenceNode) and position and int(position) < len(node.value):
            node = node.value[int(position)]
        else:
            break
        if node is None:
            break
        line = node.start_mark.line + 1
    return line


def _in_one_line(cause: Exception) -> str:
    """PyYAML's message without its name for a text that came from no file."""
    return " ".join(str(cause).replace('in "<unicode string>", ', "in ").split())


class _Loader(yaml.SafeLoader):
    """Makes plain values only."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()
        where = f"line {event.start_mark.line + 1}"
        if isinstance(event, yaml.AliasEvent):
            raise ValueError(f"{where}: the alias *{event.anchor} is not supported; write its value out")
        if getattr(event, "tag", None) and event.tag != "!":
            raise ValueError(f"{where}: the tag {event.tag} is not supported; write the value without it")
        if self.depth > DEPTH:
            raise ValueError(f"{where}: more than {DEPTH} levels of nesting")
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise ValueError(f"line {line}: a key is a list or a mapping; expected text")
            key = key_node.value
            if key in found:
                raise ValueError(f"the key {key!r} is given twice, the second time in line {line}")
            found[key] = self.construct_object(value_node, deep=deep)
        return found

    def plain(self, node: yaml.ScalarNode) -> Any:
        """A scalar: null, true, false, a number, or text."""
        kind, text = node.tag.removeprefix(_TAG), node.value
        if kind not in ("int", "float", "bool", "null"):
            return text
        require_at_most(DIGITS, len(text), "characters in one number", f"line {node.start_mark.line + 1}", DataError)
        made = {"int": int, "float": _float, "null": lambda _: None, "bool": lambda word: word.lower() == "true"}
        return made[kind](text)


def _float(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


_Loader.yaml_constructors = {
    None: yaml.SafeLoader.construct_undefined,
    f"{_TAG}map": yaml.SafeLoader.construct_yaml_map,
    f"{_TAG}seq": yaml.SafeLoader.construct_yaml_seq,
    **{f"{_TAG}{kind}": _Loader.plain for kind in ("str", "int", "float", "bool", "null")},
}
# YAML 1.2's core schema. YAML 1.1 reads 1e-4 as text, 010 as 8, 1:30 as 90, and yes as true.
_Loader.yaml_implicit_resolvers = {}
for _kind, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ("~", "n", "N", "")),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+0123456789."),
    ),
):
    _Loader.add_implicit_resolver(f"{_TAG}{_kind}", re.compile(f"(?:{_pattern})$"), list(_first))
