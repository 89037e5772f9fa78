"""The facts of a Kaggle data set, dataset-metadata.json, and what Kaggle's client or server would refuse in them."""

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from zoo.errors import SubmissionError
from zoo.text import read_json

FILE = "dataset-metadata.json"
"""Its name in the uploaded folder, where Kaggle's client looks for it."""
TEMPLATE = Path(__file__).with_name("metadata.json")
"""The project's own facts. Not named `FILE`, so that the client refuses to upload this folder, which holds no model."""

LICENCES = (
    *("CC0-1.0", "CC-BY-3.0", "CC-BY-3.0-IGO", "CC-BY-4.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0", "CC-BY-NC-4.0"),
    *("CC-BY-ND-4.0", "CC-BY-NC-ND-4.0", "CC-BY-NC-SA-3.0-IGO", "CC-BY-NC-SA-4.0"),
    *("GPL-2.0", "GPL-3.0", "LGPL-3.0", "AGPL-3.0", "FDL-1.3", "apache-2.0"),
    *("ODbL-1.0", "DbCL-1.0", "ODC-BY-1.0", "PDDL", "CDLA-Permissive-1.0", "CDLA-Sharing-1.0"),
    *("US-Government-Works", "EU-ODP-Legal-Notice", "copyright-authors", "other", "unknown"),
)
"""Every licence of a Kaggle data set, in Kaggle's spelling: docs/datasets_metadata.md of github.com/Kaggle/kaggle-api at
1744cda (January 2026). The client sends any other name too, and it is left to the server to refuse it."""

_TEXTS, _LISTS = ("id", "title", "subtitle", "description"), ("licenses", "resources")
_RESOURCE = {"path", "description"}


def read_metadata(path: Path) -> dict:
    """A data set's facts: texts, lists of mappings, and keywords.

    Raises:
        SubmissionError: the file is missing or not JSON, a value has another type, or there is no id or title.
    """
    advice = "Correct the file." if path != TEMPLATE else "Restore the file: it belongs to landmark-zoo."
    metadata = read_json(path, error=SubmissionError, advice=advice)
    if not _is_sound(metadata):
        raise SubmissionError(
            f"{path}: expected a mapping with {', '.join(_TEXTS)} as text, {' and '.join(_LISTS)} as lists of mappings, keywords "
            f"as a list of texts, and at least an id and a title. {advice}"
        )
    return metadata


def _is_sound(metadata: object) -> bool:
    if not isinstance(metadata, dict) or not {"id", "title"} <= metadata.keys():
        return False
    lists = [(key, dict) for key in _LISTS] + [("keywords", str)]
    return all(isinstance(metadata.get(key, ""), str) for key in _TEXTS) and all(
        isinstance(values := metadata.get(key, []), list) and all(isinstance(value, kind) for value in values)
        for key, kind in lists
    )


def check_metadata(metadata: Mapping, files: Collection[str]) -> None:
    """Raises `SubmissionError` if Kaggle's client would refuse the facts of a data set, or its server the licence.

    The rules are those of `dataset_create_new` in github.com/Kaggle/kaggle-api (src/kaggle/api/kaggle_api_extended.py), and of
    that project's docs/datasets_metadata.md.

    Args:
        metadata: as `read_metadata` returns it.
        files: names in the uploaded folder, which resources may describe.
    """

    def require(holds: object, expected: str, found: object) -> None:
        if not holds:
            raise SubmissionError(f"{FILE}: expected {expected}, found {found!r}.")

    require("INSERT_" not in json.dumps(metadata), "no INSERT_…_HERE placeholder", metadata)
    name, title, subtitle = metadata.get("id", ""), metadata.get("title", ""), metadata.get("subtitle")
    require(
        re.fullmatch(r"[A-Za-z0-9_-]+/[a-z0-9-]{6,50}", name),
        "an id owner/slug whose slug is 6 to 50 lowercase letters, digits and hyphens",
        name,
    )
    require(6 <= len(title) <= 50, "a title of 6 to 50 characters", title)
    require(subtitle is None or 20 <= len(subtitle) <= 80, "a subtitle of 20 to 80 characters", subtitle)
    number = metadata.get("id_no", 1)
    require(isinstance(number, int) and number > 0, "a number as id_no, or none", number)
    licences = metadata.get("licenses", [])
    require(len(licences) == 1 and licences[0].get("name"), "exactly one license with a name", licences)
    _require_licence(licences[0]["name"])
    resources = metadata.get("resources", [])
    require(all(r.keys() <= _RESOURCE for r in resources), "a path and a description of each resource", resources)
    require(all(isinstance(v, str) for r in resources for v in r.values()), "texts about each resource", resources)
    paths = [resource.get("path", "") for resource in resources]
    require(len(set(paths)) == len(paths), "no resource twice", paths)
    for path in paths:
        require(path in files, f"every resource to be one of the uploaded files {sorted(files)}", path)


def _require_licence(name: object) -> None:
    if name in LICENCES:
        return
    near = [known for known in LICENCES if isinstance(name, str) and known.lower() == name.lower()]
    hint = f"Kaggle writes it {near[0]!r}." if near else f"Kaggle knows {', '.join(LICENCES)}."
    raise SubmissionError(f"{FILE}: expected the name of a licence that Kaggle knows, found {name!r}. {hint}")
