"""Which model made a set of descriptors, and whether two sets may be compared."""

from collections.abc import Mapping
from typing import Any

from zoo.errors import DataError

_NOTHING = "nothing"
_COMPARED = ("model", "checkpoint", "size", "combined")
"""What decides descriptors. `framework` does not: all of them compute the same within the tolerances."""


def difference(first: Mapping[str, Any], second: Mapping[str, Any]) -> str | None:
    """What two sources of descriptors (`Embeddings.source`) differ in, as text; None if they are one model's.

    A key that one of them lacks, or has as None, is not compared. With both checkpoints known, names do not matter.
    """
    one, other = _members(first), _members(second)
    if one is not None or other is not None:
        if not first or not second:
            return None
        one, other = one or [first], other or [second]
        if len(one) != len(other):
            return f"{len(one)} models and {len(other)}"
        return next(filter(None, map(difference, one, other)), None)
    first, second = ({**source, "combined": _combined(source)} for source in (first, second))
    keys = [key for key in _COMPARED if first.get(key) is not None and second.get(key) is not None]
    for key in keys:
        if key == "model" and "checkpoint" in keys:
            continue
        if first[key] != second[key]:
            return _shown(first, second, key)
    return None


def require_same_model(
    first: Mapping[str, Any],
    second: Mapping[str, Any],
    what: str,
    advice: str = "Embed both with the same model.",
) -> None:
    """Raises `DataError` if two sources of descriptors are of different models.

    Args:
        first, second: `Embeddings.source` of both.
        what: the two, for the message, for example "the index and the queries".
        advice: the last sentence of the message.
    """
    if found := difference(first, second):
        raise DataError(f"{what} are of different models: {found}. {advice}")


def _members(source: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    """The sources of concatenated descriptors (`retrieval.embeddings.concatenate`), or None."""
    members = source.get("members")
    if isinstance(members, list) and members and all(isinstance(member, dict) for member in members):
        return members
    return None


def _combined(source: Mapping[str, Any]) -> Any:
    """What is done around a source's networks: None if it is not known, "nothing" for one network as it is."""
    combined = source.get("combined")
    if combined is None:
        return None if source.get("checkpoint") is None else _NOTHING
    if isinstance(combined, dict) and (combined.get("scales"), combined.get("weights")) == ([1.0], [1.0]):
        return combined if combined.get("flip") or combined.get("whitening_sha256") else _NOTHING
    return combined


def _shown(first: Mapping[str, Any], second: Mapping[str, Any], key: str) -> str:
    """Two sources that differ in a key, by their models and by what differs."""
    one, other = first[key], second[key]
    if isinstance(one, dict) and isinstance(other, dict):
        key = next(name for name in sorted({*one, *other}) if one.get(name) != other.get(name))
        one, other = one.get(key), other.get(key)
    networks = [str(value).split(" + ") if key == "checkpoint" else [] for value in (one, other)]
    if len(networks[0]) != len(networks[1]):
        return f"{len(networks[0])} networks and {len(networks[1])}"
    if networks[0]:
        one, other = next(pair for pair in zip(*networks, strict=True) if pair[0] != pair[1])
    return f"{_named(first, key, one)} and {_named(second, key, other)}"


def _named(source: Mapping[str, Any], key: str, value: Any) -> str:
    text = f"{key} {str(value)[:12] if key == 'checkpoint' else _short(value)}"
    return text if key == "model" or source.get("model") is None else f"{_short(source['model'])} with {text}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:38]}…{text[-38:]}"
