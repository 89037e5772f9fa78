"""The model card of a SavedModel: what its manifest says, as Markdown."""

from export.rehearsal import Rehearsal
from zoo.manifest import Combined, Manifest, ParityRow, Source
from zoo.specs import ImportedSpec

FILE = "MODEL_CARD.md"


def model_card(manifest: Manifest, bytes_packed: int, rehearsal: Rehearsal | None = None, licence: str = "") -> str:
    """Markdown for the upload folder.

    Args:
        manifest: the SavedModel's.
        bytes_packed: size of its files together.
        licence: the upload's, by name.
        rehearsal: what TensorFlow 2.2 made of the packed zip; None if it was not run.
    """
    parts = [
        f"# {_title(manifest)}",
        "A TensorFlow SavedModel for image retrieval, made with landmark-zoo. `serving_default` takes one image, "
        "`input_image` uint8 [H, W, 3] of any height and width, and returns `global_descriptor` float32 [D]. Compare "
        f"descriptors by Euclidean distance. {bytes_packed / 1e6:.1f} MB.",
        "## Networks",
        _networks(manifest.sources),
        _combined(manifest.combined),
        "## Parity",
        "Largest absolute difference of any entry, and smallest cosine, between the two ends of each conversion step, on "
        "descriptors of unit norm.",
        _parity(manifest),
        _rehearsed(rehearsal),
        "## Versions",
        "\n".join(f"- {package} {version}" for package, version in sorted(_versions(manifest).items())),
        "## Use and licence",
        _licence(manifest, licence),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _title(manifest: Manifest) -> str:
    return manifest.name if len(manifest.sources) == 1 else f"Ensemble of {len(manifest.sources)}: {manifest.name}"


def _networks(sources: list[Source]) -> str:
    lines = ["| network | trained in | image side, px | descriptor | weight | checkpoint, sha256 |"]
    lines.append("| --- | --- | ---: | ---: | ---: | --- |")
    for source in sources:
        size, length = source.spec.preprocess.size, source.spec.embedding_size
        lines.append(
            f"| {source.spec.name} | {_origin(source)} | {size} | {length} | {source.weight:g} "
            f"| `{source.checkpoint_sha256[:16]}` |"
        )
    return "\n".join(lines)


def _origin(source: Source) -> str:
    return "elsewhere (an ONNX file)" if isinstance(source.spec, ImportedSpec) else source.exported_from


def imported(manifest: Manifest) -> list[str]:
    """The names of the networks that came from elsewhere."""
    return [source.spec.name for source in manifest.sources if isinstance(source.spec, ImportedSpec)]


def _licence(manifest: Manifest, licence: str) -> str:
    text = "The weights may be used as the licence of their training data allows. The networks and the export are MIT-licensed."
    if names := imported(manifest):
        text += (
            f"\n\nExcept {', '.join(names)}: somebody else's network, which came as an ONNX file. Its licence and that of its weights "
            f"are its authors'; whoever uploaded it stated {licence or 'none'}."
        )
    return text


def _combined(combined: Combined | None) -> str:
    if combined is None:
        return ""
    norms = {
        "constant": "divided by one constant, which gives unit norm and changes no ranking",
        "l2": "divided by its Euclidean norm",
        "none": "left as it is",
    }
    views = (
        f"scales {', '.join(f'{scale:g}' for scale in combined.scales)}{' and mirror images' if combined.flip else ''}"
    )
    whitening = f" It is whitened (sha256 `{combined.whitening_sha256[:16]}`)." if combined.whitening_sha256 else ""
    return f"Each network sees {views}; the weighted concatenation is {norms.get(combined.norm, combined.norm)}.{whitening}"


def _parity(manifest: Manifest) -> str:
    rows = [row for source in manifest.sources for row in source.parity or []]
    rows += [row for row in manifest.parity or [] if row not in rows]
    lines = [
        "| step | model | image side, px | max abs | allowed | cosine |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    return "\n".join([*lines, *map(_row, rows)])


def _row(row: ParityRow) -> str:
    cells = (
        row.arrow,
        row.model,
        row.size or "several",
        f"{row.max_abs:.1e}",
        f"{row.tolerance:.0e}",
        f"{row.cosine:.9f}",
    )
    return f"| {' | '.join(map(str, cells))} |"


def _rehearsed(rehearsal: Rehearsal | None) -> str:
    if rehearsal is None:
        return "The packed zip was not run in TensorFlow 2.2."
    text = (
        f"The packed zip was unzipped and run in TensorFlow {rehearsal.tensorflow}: its descriptors of photographs differ by at most "
        f"{rehearsal.difference.max_abs:.1e} from those of the SavedModel in TensorFlow {rehearsal.reference}."
    )
    if ranked := rehearsal.ranked:
        text += f" It ranked {ranked.images:,} images for {ranked.queries:,} queries as expected."
    return text


def _versions(manifest: Manifest) -> dict[str, str]:
    found = dict(manifest.versions)
    for source in manifest.sources:
        found |= source.versions
    if manifest.check:
        how = "ran" if manifest.check.how == "run" else "was checked against"
        found["accepted by TensorFlow"] = f"{manifest.check.tensorflow} (it {how} this file)"
    return found
