"""Finds the state dict in what a training script saved."""

from typing import Any

import numpy as np

from zoo.errors import CheckpointError
from zoo.limits import DEPTH, require_at_most
from zoo.published.pickles import Opaque, plain

_AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema", "averaged_model", "swa_state_dict")
_CURRENT = (
    *(
        "state_dict",
        "model_state_dict",
        "model_state",
        "model",
        "net",
        "network",
        "params",
        "weights",
        "module",
        "backbone",
    ),
    *("encoder", "student"),
)
KEYS = (*_AVERAGED, *_CURRENT)
"""Keys under which training scripts store the tensors; averaged weights come first, as in timm."""
NAME = 500
"""Characters of a tensor's name; what is longer is none."""
_OTHERS = ("optim", "scheduler", "scaler", "amp", "rng", "loss", "criterion", "teacher", "discriminator")
"""Beginnings of keys whose tensors are not a model's."""


def find_state_dict(value: Any, depth: int = 0) -> dict[str, np.ndarray | Opaque]:
    """The tensors by their name in the file.

    Looked for under `KEYS`, in the value itself, and then in every mapping below it, if only one has tensors.

    Raises:
        CheckpointError: there are no tensors, or several mappings have some; or it is a whole model.
    """
    require_at_most(DEPTH, depth, "levels of nesting", "its state dict", CheckpointError)
    if isinstance(value, Opaque):
        raise CheckpointError(
            f"it is a pickled object of {value.name}, which only its own code could load. Where that code is, save the weights "
            "only: `torch.save(model.state_dict(), 'weights.pth')`"
        )
    if not isinstance(value, dict):
        raise CheckpointError(f"it contains a {type(value).__name__}, not a state dict")
    for key in KEYS:
        if isinstance(value.get(key), dict) and _any_tensors(value[key]):
            return find_state_dict(value[key], depth + 1)
    if _own_tensors(value):
        return _own_tensors(value)
    inside = {
        key: item
        for key, item in value.items()
        if isinstance(item, dict) and _any_tensors(item) and not str(plain(key)).strip("'").lower().startswith(_OTHERS)
    }
    if len(inside) == 1:
        return find_state_dict(next(iter(inside.values())), depth + 1)
    keys = ", ".join(plain(key) for key in list(value)[:8])
    if inside:
        raise CheckpointError(
            f"it has tensors under several keys: {', '.join(map(plain, inside))}. Load it where you trust it, "
            "and save the one that you mean in a file of its own"
        )
    objects = [f"{plain(key)} ({item.name})" for key, item in value.items() if isinstance(item, Opaque)]
    if objects:
        raise CheckpointError(
            f"it contains no tensors but objects that only their own code could load: {', '.join(objects[:5])}. Where that code "
            "is, save the weights only: `torch.save(model.state_dict(), 'weights.pth')`"
        )
    raise CheckpointError(f"it contains no tensors; its keys are {keys or 'none'}")


def _own_tensors(value: dict) -> dict[str, np.ndarray | Opaque]:
    """The tensors directly in a mapping; one that cannot be read stays as an `Opaque`."""
    found: dict[str, np.ndarray | Opaque] = {}
    for name, item in value.items():
        # Paddle may write a tensor as a pair (name, values).
        if isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str):
            item = item[1]
        if (
            isinstance(name, str)
            and len(name) <= NAME
            and (isinstance(item, np.ndarray) or (isinstance(item, Opaque) and is_tensor(item)))
        ):
            found[name] = item
    return found if any(isinstance(item, np.ndarray) for item in found.values()) else {}


def is_tensor(value: Opaque) -> bool:
    """Whether an object that was not read is a tensor of an unknown kind."""
    return "_rebuild" in value.name or value.name.startswith("a tensor")


def _any_tensors(value: dict, known: dict[int, bool] | None = None) -> bool:
    """Whether there are tensors in a mapping or below it. A mapping that occurs many times is looked into once."""
    known = {} if known is None else known
    if id(value) not in known:
        known[id(value)] = False  # until it is known: a mapping may contain itself
        inside = [item for item in value.values() if isinstance(item, dict)]
        known[id(value)] = bool(_own_tensors(value)) or any(_any_tensors(item, known) for item in inside)
    return known[id(value)]
