"""Re-ranking: what is done to a ranking after the search, and the JSON file that says it.

The file is made by `landmark-zoo tune`, which chooses the parameters on the training set, or by hand:

    {"format": "landmark-zoo re-ranking 1", "expand_queries": {"neighbours": 3, "alpha": 3}}

A part that is missing or null is not done. The order is: the index is augmented, the queries are expanded, the result is re-ranked.
"""

import os
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from retrieval import reciprocal
from retrieval.exact import search
from retrieval.expansion import Expansion, expand
from retrieval.neighbours import Neighbours, neighbours, other_neighbours
from retrieval.provenance import require_same_model
from retrieval.ranking import Ranking
from retrieval.reciprocal import KReciprocal
from retrieval.store import Rows
from zoo.disk import temporary_folder
from zoo.errors import DataError, SpecError
from zoo.files import write_json
from zoo.strict import read_fields
from zoo.text import read_json

FORMAT = "landmark-zoo re-ranking 1"
PARTS = {"augment_database": Expansion, "expand_queries": Expansion, "k_reciprocal": KReciprocal}
"""What a re-ranking consists of: the attributes of `Reranking` that say what is done, and their types."""
_ADVICE = "`landmark-zoo tune` writes such a file."


@dataclass(frozen=True)
class Reranking:
    """What is done to a ranking; nothing by default.

    Attributes:
        augment_database: replaces the descriptors of the index (`retrieval.expansion`).
        expand_queries: replaces those of the queries.
        k_reciprocal: ranks by k-reciprocal neighbours (`retrieval.reciprocal`).
        source: `Embeddings.source` of the descriptors that the parameters were chosen on; empty if they were written by hand.
        tuning: the figures of the choice, as JSON values.
    """

    augment_database: Expansion | None = None
    expand_queries: Expansion | None = None
    k_reciprocal: KReciprocal | None = None
    source: dict = field(default_factory=dict)
    tuning: dict = field(default_factory=dict)

    def __str__(self) -> str:
        """The parts in words, for example "augment 3, alpha 3 + expand 3, alpha 3 + k-reciprocal 20, 6, 0.3"."""
        parts = [
            f"{word} {part.neighbours}, alpha {part.alpha:g}"
            for word, part in (("augment", self.augment_database), ("expand", self.expand_queries))
            if part
        ]
        if found := self.k_reciprocal:
            parts.append(f"k-reciprocal {found.k1}, {found.k2}, {found.distance_weight:g}")
        return " + ".join(parts) or "none"

    def parts(self) -> dict[str, Any]:
        """The parameters as JSON values, without what they rest on."""
        return {name: asdict(part) if (part := getattr(self, name)) else None for name in PARTS}


NONE = Reranking()


def apply(
    index: Rows,
    queries: Rows,
    ranking: Ranking,
    parameters: Reranking,
    *,
    known: Neighbours | None = None,
    device: str = "cpu",
) -> Ranking:
    """Re-ranks the result of a search.

    New descriptors are kept in mapped files in a temporary folder: those of an augmented index are as large as the index' own. The
    neighbours of every index image are searched for database augmentation and for k-reciprocal re-ranking.

    Args:
        index: what was searched; images that could not be read contribute nothing and are never found.
        queries: what was searched for.
        ranking: the result of `retrieval.exact.search`.
        parameters: what to do.
        known: the nearest other images of each index image, if they were searched before, at least as many as the parameters need.
        device: as in `retrieval.exact.search`.

    Returns:
        As many index images per query. Distances ascend; after k-reciprocal re-ranking they are its final distances.

    Raises:
        DataError: the parameters were chosen for another model.
        OutputError: the temporary folder has no room.
    """
    require_same_model(
        parameters.source,
        index.source,
        "the parameters of the re-ranking and the index",
        "Choose parameters with `landmark-zoo tune` on this model's training descriptors.",
    )
    length = ranking.rows.shape[1]
    with temporary_folder() as folder:
        if augmentation := parameters.augment_database:
            found = known or other_neighbours(index, augmentation.neighbours, device=device)
            index = expand(folder / "index.npy", index, index, found, augmentation)
            known = None  # the augmented index has other neighbours
            ranking = search(index, queries, length, device=device)
        if expansion := parameters.expand_queries:
            found = Neighbours(ranking.rows, ranking.distances)
            if length < min(expansion.neighbours, len(index.ids)):
                found = neighbours(queries, index, expansion.neighbours, device=device)
            queries = expand(folder / "queries.npy", queries, index, found, expansion)
            ranking = search(index, queries, length, device=device)
        if parameters.k_reciprocal:
            return reciprocal.rerank(index, queries, ranking, parameters.k_reciprocal, known=known, device=device)
    return ranking


def write_reranking(path: str | os.PathLike, parameters: Reranking) -> None:
    """Writes the file atomically.

    Raises:
        OutputError: the disk is full or the folder cannot be written.
    """
    values = {"format": FORMAT} | parameters.parts() | {"source": parameters.source, "tuning": parameters.tuning}
    write_json(path, values)


def read_reranking(path: str | os.PathLike) -> Reranking:
    """The parameters in a file.

    Raises:
        DataError: the file is missing, is no such file, or a parameter is unknown or out of range.
    """
    values = read_json(path, advice=_ADVICE)
    if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
        raise DataError(f"{path}: expected the format {FORMAT!r}. {_ADVICE}")
    try:
        # Part by part, because unknown keys are found in mappings that may not be null.
        parts = {name: _part(values.pop(name, None), name) for name in PARTS}
        return replace(read_fields(Reranking, values, "re-ranking"), **parts)
    except (SpecError, DataError) as error:
        raise DataError(f"{path} is not a usable re-ranking: {error}. {_ADVICE}") from error


def _part(values: object, name: str) -> Expansion | KReciprocal | None:
    return None if values is None else read_fields(PARTS[name], values, name)
