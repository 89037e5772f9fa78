"""Finds a variant by a name that a user typed."""

import difflib

from zoo.errors import SpecError
from zoo.specs import ModelSpec
from zoo.variants import SPECS, VARIANTS, get_spec

_SHOWN = 3


def find_spec(name: str) -> ModelSpec:
    """The spec of a variant, by its name or by a published one (`timm resnet50d`), in any case.

    Raises:
        SpecError: there is no such variant. The message suggests the nearest names, published ones included.
    """
    if name in SPECS or any(name in row.equals for row in VARIANTS.values()):
        return get_spec(name)
    known = _known_names()
    found = {ours for given, ours in known if given.lower() == name.lower()}
    # Publishers differ in capitals: ResNeSt50 is PaddleClas' network, which is not our resnest50.
    published = {ours for given, ours in known if given != ours and given.partition(" ")[2] == name}
    if found and len({SPECS[ours].backbone for ours in found | published}) == 1:
        return get_spec(min(found))
    raise SpecError(f"there is no model {name[:80]!r}. {_suggestion(name.lower(), known)}")


def _known_names() -> list[tuple[str, str]]:
    """(name, variant) of every variant and of every network that it equals."""
    published = [(other, ours) for ours, row in VARIANTS.items() for other in row.equals]
    return [(name, name) for name in SPECS] + published


def _suggestion(name: str, known: list[tuple[str, str]]) -> str:
    """The nearest names. A published name is also compared without its library, as people copy it from there."""
    forms = {given.lower(): (given, ours) for given, ours in reversed(known)}
    bare: dict[str, list[tuple[str, str]]] = {}
    for given, ours in known:
        if given != ours:
            bare.setdefault(given.partition(" ")[2].lower(), []).append((given, ours))
    if name in bare:
        near = [forms[name], *bare[name]] if name in forms else bare[name]
    else:
        near = []
        for match in difflib.get_close_matches(name[:80], [*forms, *bare], n=_SHOWN):
            near += [forms[match]] if match in forms else bare[match]
    if not near:
        return "`landmark-zoo models` lists all."
    shown: dict[str, str] = {}
    for given, ours in near:
        shown.setdefault(ours, ours if given == ours else f"{ours} ({given})")
    return f"Did you mean {' or '.join(list(shown.values())[: 2 * _SHOWN])}?"
