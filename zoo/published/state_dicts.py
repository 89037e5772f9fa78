"""Finds the state dicts in what a training script saved."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from zoo.command import log
from zoo.errors import CheckpointError
from zoo.limits import NAME
from zoo.published.names import PATH, averaged, has_first_layer
from zoo.published.pickled_values import Opaque, plain

_OTHERS = ("optim", "scheduler", "scaler", "amp", "rng", "loss", "criterion")
"""Beginnings of keys whose tensors are not a model's."""
_WEIGHTS = {"weight", "bias", "running_mean", "running_var", "_mean", "_variance", "scale", "p"}
"""Last parts of names under which an unknown object can only be a tensor."""
_SAVE = "save the weights only: `torch.save(model.state_dict(), 'weights.pth')`"
_Tensors = dict[str, np.ndarray | Opaque]


def find_state_dict(value: Any, prefix: str | None = None) -> _Tensors:
    """The tensors by their name in the file.

    Every mapping with tensors is found, at any depth and under any key; the ones with the names of a backbone count. Averaged
    weights come first, as in timm, unless they lack BatchNorm's statistics. An optimiser's float32 copy of a half-precision model
    ("master_params") comes last. If several remain, their names begin with the path to them: "student/conv1.weight".

    Args:
        value: what was read from the file.
        prefix: what the user says stands before the names; if it begins with the path of a mapping, that one is taken.

    Raises:
        CheckpointError: there are no tensors; or it is a whole model.
    """
    if isinstance(value, Opaque) and value.items is None:
        raise CheckpointError(
            f"it is a pickled object of {value.name}, which only its own code could load. Where that code is, {_SAVE}"
        )
    found = dict(_state_dicts(value))
    if not found:
        raise CheckpointError(_nothing(value))
    if named := [path for path in found if path and (prefix or "").startswith(f"{path}{PATH}")]:
        return _with_path(max(named, key=len), found)
    chosen = {path: tensors for path, tensors in found.items() if has_first_layer(tensors)}
    if not chosen and has_first_layer(joined := _joined(found)):
        return joined
    if not chosen:  # no backbone: the differences from one are shown for the largest
        return max(found.values(), key=lambda tensors: sum(isinstance(item, np.ndarray) for item in tensors.values()))
    complete = {path: tensors for path, tensors in chosen.items() if _has_statistics(tensors)} or chosen
    models = {path: tensors for path, tensors in complete.items() if not _is_master(path)} or complete
    chosen = {path: tensors for path, tensors in models.items() if averaged(path)} or models
    path, first = next(iter(chosen.items()))
    if not all(_equal(first, tensors) for tensors in chosen.values()):
        return {name: item for path in chosen for name, item in _with_path(path, chosen).items()}
    for other in complete.keys() - chosen.keys():
        kind = "averaged weights" if averaged(path) else "model's own weights"
        log(f"the {kind} were read, {path!r}; --prefix {other}{PATH} reads the others, {other!r}")
    return first


def _joined(found: dict[str, _Tensors]) -> _Tensors:
    """The tensors of mappings inside each other, {"layer1": {"0": {"conv1": {"weight": …}}}}, by the names that these make."""
    return {
        ".".join([*path.split(PATH), name]).removeprefix("."): item
        for path, own in found.items()
        for name, item in own.items()
    }


def _with_path(path: str, found: dict[str, _Tensors]) -> _Tensors:
    return {f"{path}{PATH}{name}": item for name, item in found[path].items()}


def _is_master(path: str) -> bool:
    """Whether a mapping is the copy in float32 that an optimiser keeps of a model in half precision."""
    return any(key.lower().startswith("master") for key in path.split(PATH))


def _state_dicts(value: Any) -> Iterator[tuple[str, _Tensors]]:
    """(path of keys, tensors directly in it) of every mapping, each once: values may be shared or contain themselves."""
    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = [("", value)]
    while waiting:
        path, item = waiting.pop()
        if isinstance(item, Opaque):
            item = item.items
        if not isinstance(item, dict | list | tuple) or id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, list) and item and all(map(_is_named, item)):
            item = dict(item)  # list(model.state_dict().items())
        if isinstance(item, dict):
            pairs = list(item.items())
            if tensors := _own_tensors(item):
                yield path, tensors
        else:
            pairs = list(enumerate(item))
        below = [(key, inner) for key, inner in pairs if isinstance(inner, dict | list | tuple | Opaque)]
        for key, inner in reversed(below):
            text = plain(key).strip("'")
            if not text.lower().startswith(_OTHERS):
                waiting.append((f"{path}{PATH}{text}" if path else text, inner))


def _is_named(pair: Any) -> bool:
    return isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], np.ndarray)


def _nothing(value: Any) -> str:
    """Why there are no tensors."""
    if isinstance(value, Opaque):
        value = value.items
    if not isinstance(value, dict):
        return f"it contains a value of type {type(value).__name__}, not a state dict; {_SAVE}"
    objects = [f"{plain(key)} ({item.name})" for key, item in value.items() if isinstance(item, Opaque)]
    if objects:
        return (
            f"it contains no tensors but objects that only their own code could load: {', '.join(objects[:5])}. Where that "
            f"code is, {_SAVE}"
        )
    return f"it contains no tensors; its keys are {', '.join(plain(key) for key in list(value)[:8]) or 'none'}; {_SAVE}"


def _own_tensors(value: dict) -> _Tensors:
    """The tensors directly in a mapping; one that cannot be read stays as an `Opaque`."""
    found: _Tensors = {}
    for name, item in value.items():
        # Paddle may write a tensor as a pair (name, values).
        if isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str):
            item = item[1]
        if not isinstance(name, str) or len(name) > NAME:
            continue
        if isinstance(item, np.ndarray) or (isinstance(item, Opaque) and is_tensor(name, item)):
            found[name] = item
    return found if any(isinstance(item, np.ndarray) for item in found.values()) else {}


def is_tensor(name: str, value: Opaque) -> bool:
    """Whether an object that was not read is a tensor of an unknown kind."""
    known = "_rebuild" in value.name or value.name.startswith("a tensor")
    return known or name.rpartition(".")[2] in _WEIGHTS


def _has_statistics(tensors: _Tensors) -> bool:
    return any(name.endswith((".running_var", "._variance")) for name in tensors)


def _equal(first: _Tensors, second: _Tensors) -> bool:
    """Whether two state dicts have the same names and values."""
    return first is second or (first.keys() == second.keys() and all(same(first[key], second[key]) for key in first))


def same(first: np.ndarray | Opaque, second: np.ndarray | Opaque) -> bool:
    """Whether two tensors have the same type, shape and values."""
    if isinstance(first, Opaque) or isinstance(second, Opaque):
        return False
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    shared = first.__array_interface__["data"][0] == second.__array_interface__["data"][0]
    return (shared and first.strides == second.strides) or np.array_equal(first, second)
