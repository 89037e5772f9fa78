"""Where a SavedModel comes from: `assets.extra/landmark_zoo.json`, the place that TensorFlow leaves to users' own files.

It travels with the model into an ensemble and into submission.zip: which checkpoints, specs, versions and options made it, and
which parity rows were measured.
"""

import dataclasses
import hashlib
import importlib.metadata
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from zoo.errors import ExportError, SpecError
from zoo.files import write_json
from zoo.specs import NetworkSpec, read_spec
from zoo.strict import Positive, Scale, read_fields
from zoo.text import read_json
from zoo.tolerances import Difference, tolerance_of

PLACE = Path("assets.extra", "landmark_zoo.json")
FORMAT = "landmark-zoo-manifest-1"
_EXPORT = "Make one with `python export/to_savedmodel.py` or `python -m export.ensemble`."


@dataclass(frozen=True)
class ParityRow:
    """One arrow of one model: the worst difference over all its inputs.

    Attributes:
        arrow: its name (`zoo.tolerances.tolerance_of`).
        model: the model's name, with the framework that it was exported from if there is one.
        max_abs: largest absolute difference of any entry of a unit-norm descriptor.
        cosine: smallest cosine of any descriptor.
        tolerance: the largest `max_abs` that was allowed when it was measured.
        size: side in pixels of the images, or None for several sizes around the model's own.
    """

    arrow: str
    model: str
    max_abs: float
    cosine: float
    tolerance: float
    size: int | None = None

    @property
    def passed(self) -> bool:
        """Whether the row is within the tolerance table as it is now; an unknown arrow is not."""
        tolerance = tolerance_of(self.arrow)
        return tolerance is not None and Difference(self.max_abs, self.cosine).within(tolerance)

    def __str__(self) -> str:
        mark = "✓" if self.passed else "✗"
        model = self.model + (f", {self.size} px" if self.size else "")
        figures = f"max abs {self.max_abs:.1e} (≤ {self.tolerance:.0e})  cosine {self.cosine:.9f}"
        return f"{mark} {self.arrow:26} {model:28} {figures}"


@dataclass(frozen=True)
class Check:
    """Whether a TensorFlow takes the SavedModel.

    Attributes:
        tensorflow: its version.
        how: "run" if it was loaded and called there, "registry" if `export/check.py` read it.
        accepted: the verdict.
    """

    tensorflow: str
    how: str
    accepted: bool


@dataclass(frozen=True)
class Source:
    """One network of a SavedModel.

    Attributes:
        spec: the model, or what is known of a network from elsewhere.
        checkpoint_sha256: fingerprint of its checkpoint (`zoo.checkpoint.fingerprint`), or of its ONNX file and spec.
        exported_from: the framework whose exporter was used, or "onnx" for a network from elsewhere.
        versions: of the packages that exported it.
        storage: the options that it is stored with.
        converter: what made the SavedModel from the normal form.
        weight: its factor in an ensemble.
        parity: the rows that were measured when it was exported; None if nothing was.
        check: the verdict when it was exported; None if there was none.
    """

    spec: NetworkSpec
    checkpoint_sha256: str
    exported_from: str
    versions: dict[str, str]
    storage: dict[str, Any]
    converter: str = "writer"
    weight: Positive = 1.0
    parity: list[ParityRow] | None = None
    check: Check | None = None


@dataclass(frozen=True)
class Combined:
    """What an ensemble does around its networks (`export.writer.combine.Combination`)."""

    scales: Annotated[list[Scale], Meta(min_length=1)] = field(default_factory=lambda: [1.0])
    flip: bool = False
    norm: str = "constant"
    whitening_sha256: str | None = None


@dataclass(frozen=True)
class Manifest:
    """A SavedModel's provenance.

    Attributes:
        sources: its networks, in the order of their descriptors.
        combined: what is done around them; None for a single model.
        parity, check: of the SavedModel as a whole; None if nothing was measured.
        versions: of landmark-zoo and TensorFlow, which wrote it.
        saved_model_sha256: of the files that all this is said of; `write_manifest` sets it. None in manifests of before 0.2.
    """

    sources: list[Source]
    combined: Combined | None = None
    parity: list[ParityRow] | None = None
    check: Check | None = None
    versions: dict[str, str] = field(default_factory=dict)
    saved_model_sha256: str | None = None

    @property
    def name(self) -> str:
        """A model's name, or what an ensemble consists of."""
        return " + ".join(source.spec.name for source in self.sources)

    @property
    def inputs(self) -> list[tuple[int, str]]:
        """How images are resized for it: each different (side in pixels, filter), in the order of both."""
        scales = self.combined.scales if self.combined else [1.0]
        wanted = [source.spec.preprocess for source in self.sources]
        return sorted({(max(1, round(p.size * scale)), p.resize) for p in wanted for scale in scales})


def model_identity(manifest: Manifest) -> dict[str, Any]:
    """What decides the descriptors, as JSON values: the checkpoints' fingerprints, and what an ensemble does around them."""
    identity: dict[str, Any] = {"checkpoint": " + ".join(source.checkpoint_sha256 for source in manifest.sources)}
    if manifest.combined is not None:
        weights = [source.weight for source in manifest.sources]
        identity["combined"] = dataclasses.asdict(manifest.combined) | {"weights": weights}
    return identity


def write_manifest(saved_model: str | os.PathLike, manifest: Manifest) -> None:
    """Writes a SavedModel's manifest atomically, replacing the one it has. Its graph and variables are written before."""
    manifest = dataclasses.replace(manifest, saved_model_sha256=saved_model_sha256(saved_model))
    write_json(Path(saved_model, PLACE), {"format": FORMAT, **dataclasses.asdict(manifest)})


def saved_model_sha256(saved_model: str | os.PathLike) -> str:
    """Hexadecimal sha256 of a SavedModel's graph and variables: what it computes, whatever else its folder holds."""
    found = hashlib.sha256()
    variables = filter(Path.is_file, Path(saved_model, "variables").glob("*"))
    for path in [Path(saved_model, "saved_model.pb"), *sorted(variables)]:
        found.update(f"{path.name} {file_sha256(path)}\n".encode())
    return found.hexdigest()


def read_manifest(saved_model: str | os.PathLike) -> Manifest | None:
    """A SavedModel's manifest, or None if it has none: another converter made it.

    Raises:
        ExportError: the file is damaged.
    """
    path = Path(saved_model, PLACE)
    if not path.is_file():
        return None
    try:
        values = read_json(path, error=ExportError, advice=_EXPORT)
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            raise SpecError(f"expected the format {FORMAT!r}")
        manifest = read_fields(Manifest, values, "manifest", {NetworkSpec: read_spec})
        if not manifest.sources or not all(source.spec.name for source in manifest.sources):
            raise SpecError("manifest.sources: expected at least one network, each with a name")
        return manifest
    except (OSError, ValueError, RecursionError, SpecError) as error:
        raise ExportError(f"{path} is not a readable manifest: {error}. {_EXPORT}") from error


def require_manifest(saved_model: str | os.PathLike) -> Manifest:
    """A SavedModel's manifest.

    Raises:
        ExportError: it has none, or a damaged one.
    """
    manifest = read_manifest(saved_model)
    if manifest is None:
        raise ExportError(f"{saved_model} has no {PLACE}, which says what it was made from. {_EXPORT}")
    return manifest


def versions(*packages: str) -> dict[str, str]:
    """The installed versions of packages; "unknown" for one that runs from a checkout without being installed."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "unknown"
    return found


def file_sha256(path: str | os.PathLike) -> str:
    """Hexadecimal sha256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
