"""What made a ranking, in the words of the report."""

from collections.abc import Mapping
from typing import Any

_DIGITS = 12
"""Of a sha256 that are shown."""


def configuration_of(source: Mapping[str, Any]) -> dict[str, str]:
    """Name → value of what `Embeddings.source` says; what it does not say is left out."""
    combined = source.get("combined")
    if not isinstance(combined, Mapping):
        combined = {}
    made = {
        "Model": source.get("model"),
        "Run by": source.get("framework"),
        "Image size": f"{source['size']} px" if source.get("size") else None,
        "Checkpoints": _short_digests(source.get("checkpoint")),
        "Weights": _numbers(combined.get("weights")),
        "Scales": _numbers(combined.get("scales")),
        "Mirrored too": "yes" if combined.get("flip") else None,
        "Whitening": _short_digests(combined.get("whitening_sha256")),
    }
    return {name: str(value) for name, value in made.items() if value}


def _short_digests(value: Any) -> str | None:
    return " + ".join(part[:_DIGITS] for part in value.split(" + ")) if isinstance(value, str) else None


def _numbers(values: Any) -> str | None:
    return ", ".join(f"{value:g}" for value in values) if isinstance(values, list) and values else None
