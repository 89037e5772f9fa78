"""Predicts whether a SavedModel loads and runs in the contest's TensorFlow 2.2 on CPUs, without that TensorFlow.

Examples:
    python export/check.py runs/demo/ensemble/saved_model
    python export/check.py upload/submission.zip --json
    python export/check.py other/saved_model --no-contest --tf 2.4

The files are read, not executed. Each finding names the node, its function, what is wrong and what to do.
Exit status: 0 accepted, 1 rejected, 2 if no SavedModel could be read.
"""

import argparse
import json
import os
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: the packages lie in the repository's root, not in this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from export.checker.edge_types import check_types
from export.checker.finding import Finding
from export.checker.flat_graph import flatten
from export.checker.kernel_rules import check_forms, check_kernels, operations
from export.checker.model_rules import (
    check_contest_signature,
    check_objects,
    check_signatures,
    check_size,
    check_variables,
    check_weights,
)
from export.checker.node_rules import check_nodes
from export.checker.registry import Registry, load_registry
from export.checker.side_effects import check_side_effects
from export.saved_model_file import SavedGraph, open_saved_model
from export.tensorflows import TENSORFLOW as CONTEST_TENSORFLOW
from export.tensorflows import add_tf_option
from zoo import contest
from zoo.arguments import given_path, ranged
from zoo.command import run
from zoo.errors import ExportError
from zoo.manifest import Manifest, read_manifest, saved_model_sha256
from zoo.signature import CONTEST_SIGNATURE
from zoo.specs import ImportedSpec
from zoo.strict import Count, NonNegativeInt, Positive

SUSTAINED_GFLOPS = 2000.0
"""What one P100 might sustain with one image per call, about a fifth of its 9,300: an assumption, not a measurement."""
SIDE = 448
"""Side in pixels of the images for which shapes and arithmetic are computed; exported models resize to their own size."""


@dataclass(frozen=True)
class Report:
    """The result of a check.

    Attributes:
        tensorflow: the version that it was checked for.
        findings: everything that is wrong; if the SavedModel is accepted, only warnings.
        size: bytes of the folder or the zip.
        gflop: {signature: billions of operations of one call, in convolutions and matrix products}.
        manifest: what it was made from (`zoo.manifest`); None for other converters' models.
        manifest_fits: whether the manifest was written for these very files; older manifests do not say.
    """

    tensorflow: str
    findings: list[Finding]
    size: int
    gflop: dict[str, float]
    manifest: Manifest | None = None
    manifest_fits: bool = False

    @property
    def accepted(self) -> bool:
        """True if no finding rejects it."""
        return not any(finding.rejects for finding in self.findings)


def check(
    saved_model: str | os.PathLike,
    tensorflow: str = CONTEST_TENSORFLOW,
    *,
    contest: bool = True,
    side: int = SIDE,
    onednn: bool = True,
) -> Report:
    """Checks a SavedModel.

    Args:
        saved_model: a folder, or a zip with saved_model.pb at its root.
        tensorflow: the version that should run it; "2.4" means the newest 2.4 that has a registry.
        contest: also check the contest's signature; findings in other signatures are then only warnings.
        side: height and width in pixels of the images for which shapes and arithmetic are computed.
        onednn: for a processor on which TensorFlow enables oneDNN (from 2.9 on); what only oneDNN runs is then a warning.

    Raises:
        ExportError: no SavedModel could be read, or there is no registry of the version.
    """
    registry = load_registry(tensorflow, onednn=onednn)
    with open_saved_model(Path(saved_model)) as graph:
        try:
            return _report(graph, registry, contest=contest, side=side)
        except ExportError as error:
            named = "" if str(saved_model) in str(error) else f"{saved_model}: "
            raise ExportError(f"{named}{error}") from error
        except _INCONSISTENT as error:
            raise ExportError(
                f"{saved_model} contradicts itself: {' '.join(str(error).split())[:300] or type(error).__name__}. Copy it again, or "
                "make it again with `python export/to_savedmodel.py`."
            ) from error


_INCONSISTENT = (
    KeyError,
    IndexError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    MemoryError,
)
"""What reading a graph raises if its parts do not fit: an output that no node has, an index that is no number, a wrong type."""


def _report(graph: SavedGraph, registry: Registry, *, contest: bool, side: int) -> Report:
    findings = (
        check_size(graph)
        + check_signatures(graph)
        + check_objects(graph, registry)
        + check_nodes(graph, registry)
        + check_types(graph, registry)
    )
    signatures = [name for name in sorted(graph.meta_graph.signature_def) if not name.startswith("__saved_model")]
    if contest:
        findings += check_contest_signature(graph)
    findings += check_variables(graph)
    findings += check_side_effects(graph)
    gflop = {}
    for name in signatures:
        called = name == CONTEST_SIGNATURE or not contest
        found = check_kernels(graph, registry, name)
        if flat := flatten(graph, name, side):
            found += check_forms(flat, registry, guessed=not contest) + check_weights(flat)
            gflop[name] = operations(flat) / 1e9
        findings += [finding if called else replace(finding, rejects=False) for finding in found]
    manifest = read_manifest(graph.folder)
    fits = manifest is not None and manifest.saved_model_sha256 == saved_model_sha256(graph.folder)
    return Report(registry.tensorflow, list(dict.fromkeys(findings)), graph.size, gflop, manifest, fits)


def describe(report: Report, images: int, gflops: float, side: int) -> list[str]:
    """Readable lines: the findings, the size, the time, the verdict."""
    lines = [str(finding) for finding in report.findings]
    lines += _provenance(report.manifest) if report.manifest else []
    if report.manifest and not report.manifest_fits:
        lines.append("manifest: not of these files: an older version wrote it, or the graph or variables/ were changed")
    lines.append(f"size: {report.size / 1e6:.1f} MB")
    for name, gflop in report.gflop.items():
        lines.append(f"{name}: {gflop:.2f} GFLOP per call in convolutions and matrix products, for images of {side} px")
    if gflop := report.gflop.get(CONTEST_SIGNATURE):
        hours = images * gflop / gflops / 3600
        shown = f"{hours:.1f}" if hours >= 0.1 else "less than 0.1"
        lines.append(f"time: {shown} h for {images:,} images, at {gflops:g} GFLOP/s, without decoding")
    verdict = "accepted" if report.accepted else f"rejected, {sum(f.rejects for f in report.findings)} reasons"
    return [*lines, f"TensorFlow {report.tensorflow} on CPUs: {verdict}"]


def as_json(report: Report, images: int, gflops: float, side: int) -> dict[str, Any]:
    """The report as JSON values; arguments as in `describe`."""
    verdict = {"tensorflow": report.tensorflow, "accepted": report.accepted, "bytes": report.size}
    cost = {"gflop": report.gflop, "side": side, "images": images, "gflops": gflops}
    findings = [asdict(finding) | {"layer": finding.layer} for finding in report.findings]
    made = {"manifest": asdict(report.manifest) if report.manifest else None, "manifest_fits": report.manifest_fits}
    return {**verdict, **cost, "findings": findings, **made}


def _provenance(manifest: Manifest) -> list[str]:
    """One line per network, and one for what was measured."""
    lines = [
        f"network: {source.spec.name} from {source.exported_from}, weight {source.weight:g}, "
        f"{'fingerprint' if isinstance(source.spec, ImportedSpec) else 'checkpoint'} {source.checkpoint_sha256[:16]}"
        for source in manifest.sources
    ]
    if not manifest.parity:
        return [*lines, "parity: not measured"]
    worst = max(manifest.parity, key=lambda row: row.max_abs)
    return [*lines, f"parity: {len(manifest.parity)} steps measured, at most {worst.max_abs:.1e} ({worst.arrow})"]


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("saved_model", type=given_path, help="a SavedModel's folder, or a submission.zip")
    add_tf_option(parser)
    parser.add_argument(
        "--no-contest",
        action="store_true",
        help="for models that are not submissions: any signatures, all of which must load and run",
    )
    parser.add_argument(
        "--side",
        type=ranged(Count),
        default=SIDE,
        help="side in pixels of the images for shapes and time; default: %(default)s",
    )
    parser.add_argument(
        "--images",
        type=ranged(NonNegativeInt),
        default=contest.IMAGES,
        help="number of images for the estimate of time; default: %(default)s",
    )
    parser.add_argument(
        "--gflops",
        type=ranged(Positive),
        default=SUSTAINED_GFLOPS,
        help="GFLOP/s that the machine sustains; default %(default)g, a guess for one P100 with one image per call. "
        "Two CPU cores were measured at 150.",
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    return parser.parse_args()


def main() -> None:
    """Command line."""
    arguments = parse_arguments()
    report = check(arguments.saved_model, arguments.tf, contest=not arguments.no_contest, side=arguments.side)
    shown = (report, arguments.images, arguments.gflops, arguments.side)
    print(json.dumps(as_json(*shown), indent=2) if arguments.json else "\n".join(describe(*shown)))
    sys.exit(not report.accepted)


if __name__ == "__main__":
    run(main)
