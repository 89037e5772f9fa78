"""What each TensorFlow can load and run on CPUs: its operators, kernels and formats, as read from its own wheel.

All versions are in one file, which stores each operator and each list of kernels only once.
`python -m export.checker.make_registries` writes it.
"""

import functools
import gzip
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from export.tensorflows import full_version
from zoo.files import new_file

PATH = Path(__file__).resolve().parent / "registries" / "registries.json.gz"
_POOLED = ("ops", "kernels")


@dataclass(frozen=True)
class Registry:
    """One TensorFlow.

    Attributes:
        tensorflow: its version.
        graph_def: the graph versions that it writes and accepts: "producer", "min_consumer", "min_producer".
        object_kinds: kinds of object that it knows in a SavedModel.
        value_kinds: kinds of value that it knows in a function's signature.
        type_specs: kinds of type specification that it knows there.
        types: its data types, "DT_FLOAT" and so on.
        takes_unknown_attributes: whether a node may have attributes that its operator does not know.
        refused: forms that its kernels refuse at run time, which no registry lists: see `registry_worker.py`.
        only_with_onednn: forms that only oneDNN runs, which it enables by default on processors that suit, from 2.9 on.
        ops: {operator: {"in", "out": [[name, type, type_attr, number_attr, type_list_attr]], "attrs": {name: {"type",
            "default"?, "allowed"?, "minimum"?}}, "stateful"}}.
        kernels: {operator: [{attribute: [types that this kernel takes]}]} of the kernels that run without a GPU.
    """

    tensorflow: str
    graph_def: dict[str, int]
    object_kinds: list[str]
    value_kinds: list[str]
    type_specs: list[str]
    types: list[str]
    takes_unknown_attributes: bool
    refused: list[str]
    only_with_onednn: list[str]
    ops: dict[str, dict]
    kernels: dict[str, list[dict[str, list[str]]]]


def load_registry(version: str, *, onednn: bool = True) -> Registry:
    """The registry of a version.

    Args:
        version: as `full_version` takes it.
        onednn: for a processor on which TensorFlow enables oneDNN, if it is a version that does so by default.

    Raises:
        ExportError: there is no registry of the version.
    """
    registry = Registry(**_unpooled(_stored(), full_version(version)))
    if onednn:
        return registry
    return replace(registry, refused=registry.refused + registry.only_with_onednn, only_with_onednn=[])


def versions() -> list[str]:
    """Versions with a registry, oldest first."""
    return sorted(_stored()["versions"], key=_order)


def first_version_with(operator: str, attribute: str | None = None) -> str | None:
    """The oldest version that has an operator, or an attribute of it; None if none has."""
    stored = _stored()
    fits = {
        index
        for index, (name, op) in enumerate(stored["ops"])
        if name == operator and (attribute is None or attribute in op["attrs"])
    }
    return next((version for version in versions() if fits & set(stored["versions"][version]["ops"])), None)


def stateless(operator: str) -> bool | None:
    """Whether every TensorFlow registers an operator as stateless; None if none has it."""
    return _stateless().get(operator)


@functools.cache
def _stateless() -> dict[str, bool]:
    found: dict[str, bool] = {}
    for name, op in _stored()["ops"]:
        found[name] = found.get(name, True) and not op["stateful"]
    return found


def store_registries(registries: list[dict[str, Any]], path: Path = PATH) -> None:
    """Adds registries, as `registry_worker.py` writes them, to the file; the same registries give the same bytes."""
    stored = _read(path) if path.exists() else {"versions": {}}
    whole = {version: _unpooled(stored, version) for version in stored["versions"]}
    whole |= {registry["tensorflow"]: registry for registry in registries}
    pools: dict[str, dict[str, int]] = {key: {} for key in _POOLED}
    pooled = {}
    for version, registry in sorted(whole.items(), key=lambda item: _order(item[0])):
        pooled[version] = {key: value for key, value in registry.items() if key not in _POOLED}
        for key in _POOLED:
            items = (json.dumps(item, sort_keys=True) for item in sorted(registry[key].items()))
            pooled[version][key] = [pools[key].setdefault(item, len(pools[key])) for item in items]
    content = {"versions": pooled} | {key: [json.loads(item) for item in pool] for key, pool in pools.items()}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    with new_file(path) as partial:
        partial.write_bytes(gzip.compress(text.encode(), mtime=0))


def _read(path: Path) -> dict:
    return json.loads(gzip.decompress(path.read_bytes()))


@functools.cache
def _stored() -> dict:
    return _read(PATH)


def _unpooled(stored: dict, version: str) -> dict:
    registry = stored["versions"][version]
    return registry | {key: dict(stored[key][index] for index in registry[key]) for key in _POOLED}


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))
