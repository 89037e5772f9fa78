"""Compares the checker's verdicts with real TensorFlows: makes an environment per version, and loads and runs SavedModels in each.

Examples:
    python -m export.checker.prove --tf 2.4 2.8 2.11 2.13 2.15 2.17 2.21
    python -m export.checker.prove --tf 2.13 --models my_saved_models --json

By default the models are those of the checker's tests, which only a checkout has (`tests/export/corpus.py`); --models names a folder of
SavedModels instead. An environment takes about 1 GB and stays (`python -m export.tf22.environment --tf VERSION`). From 2.9 on each
version is tried with and without oneDNN, which it enables by default on some processors.
Exit status: 0 all verdicts agree, 1 some do not.
"""

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from export import tf22
from export.check import check
from export.saved_model_file import PB
from export.tensorflows import environment_variables, full_version, has_onednn
from export.tf22 import environment
from zoo.arguments import given_path
from zoo.command import log, run
from zoo.disk import temporary_folder
from zoo.errors import ExportError, MissingToolError
from zoo.processes import ending, run_module

WORKER = Path(__file__).resolve().with_name("verdict_worker.py")
CORPUS = "tests.export.corpus"
_ROOT = Path(__file__).resolve().parents[2]
_RAN = "ran"
_ENDED = "the process ended"
SECONDS = 300
"""How long a SavedModel may take to be loaded and run."""


@dataclass(frozen=True)
class Model:
    """A SavedModel to try.

    Attributes:
        folder: where it is.
        contest: whether it is called as the contest's scorer does; otherwise all of its signatures are, by name.
    """

    folder: Path
    contest: bool


@dataclass(frozen=True)
class Disagreement:
    """A SavedModel on which the checker is wrong: what it says, and what TensorFlow does."""

    model: str
    checker: str
    tensorflow: str


@dataclass(frozen=True)
class Verdicts:
    """What a TensorFlow makes of SavedModels.

    Attributes:
        tensorflow: its version, as it says itself.
        python: the version of its Python, such as "3.8".
        said: {folder: "ran", or TensorFlow's error}.
    """

    tensorflow: str
    python: str
    said: dict[Path, str]


@dataclass(frozen=True)
class Proof:
    """A TensorFlow, and how the checker did.

    Attributes:
        tensorflow: its version.
        python: the version of its Python.
        onednn: whether it used oneDNN.
        models: how many were tried.
        ran: how many of them TensorFlow ran.
        disagreements: all of them.
    """

    tensorflow: str
    python: str
    onednn: bool
    models: int
    ran: int
    disagreements: list[Disagreement] = field(default_factory=list)


def corpus(folder: Path) -> list[Model]:
    """The models in a folder that `tests.export.corpus` wrote."""
    return [
        Model(path, contest=way == "contest") for way in ("contest", "any") for path in sorted((folder / way).iterdir())
    ]


def models_in(folder: Path) -> list[Model]:
    """Every SavedModel directly in a folder.

    Raises:
        ExportError: there is none.
    """
    found = [Model(path.parent, contest=False) for path in sorted(folder.glob(f"*/{PB}"))]
    if not found:
        raise ExportError(f"{folder}: expected folders with {PB}, found none")
    return found


def prove(version: str, python: Path, models: Sequence[Model], work: Path) -> list[Proof]:
    """Tries models in one TensorFlow: without oneDNN, and with it if the version enables it by default.

    Args:
        version: of TensorFlow, as `full_version` takes it.
        python: the python that has it.
        models: what to try; at least one.
        work: a folder for temporary files.

    Raises:
        ExportError: there is no registry of the version.
        MissingToolError: the python has no TensorFlow that runs, or another version of it.
    """
    version = full_version(version)
    return [_prove(version, python, models, work, onednn=onednn) for onednn in (False, True)[: 1 + has_onednn(version)]]


def _prove(version: str, python: Path, models: Sequence[Model], work: Path, *, onednn: bool) -> Proof:
    found = [
        real_verdicts(folders, python, contest, work, onednn=onednn)
        for contest in (True, False)
        if (folders := [model.folder for model in models if model.contest == contest])
    ]
    if other := next((verdicts.tensorflow for verdicts in found if verdicts.tensorflow != version), None):
        raise MissingToolError(f"{python}: expected TensorFlow {version}, found {other}")
    real = {folder: said for verdicts in found for folder, said in verdicts.said.items()}
    disagreements = []
    for model in models:
        try:
            report = check(model.folder, version, contest=model.contest, onednn=onednn)
            reasons = [str(finding) for finding in report.findings if finding.rejects]
        except ExportError as error:  # a SavedModel that cannot be read: `prove` knows the version
            reasons = [str(error)]
        said = real[model.folder]
        if (said == _RAN) == bool(reasons):
            disagreements.append(Disagreement(model.folder.name, "; ".join(reasons)[:300] or "accepted", said[:300]))
    ran = sum(said == _RAN for said in real.values())
    return Proof(version, found[0].python, onednn, len(models), ran, disagreements)


def real_verdicts(
    folders: Sequence[Path], python: Path | str, contest: bool, work: Path, *, onednn: bool, seconds: int = SECONDS
) -> Verdicts:
    """Loads and runs SavedModels. One that ends the process, or takes longer than `seconds`, affects only its own verdict.

    Raises:
        MissingToolError: the python has no TensorFlow that runs.
    """
    out, found, tensorflow, its_python = work / "verdicts.txt", {}, "", ""
    while waiting := [folder for folder in folders if folder not in found]:
        out.unlink(missing_ok=True)
        command = [python, "-I", WORKER, out, "contest" if contest else "any", str(seconds), *waiting]
        variables = environment_variables(onednn=onednn)
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", check=False, env=variables
        )
        how = f"took longer than {seconds} s" if done.returncode == -signal.SIGALRM else ending(done.returncode)
        lines = out.read_text(encoding="utf-8").splitlines() if out.exists() else []
        loaded = next((line for line in done.stdout.splitlines() if line.startswith("loaded ")), None)
        if loaded is None:
            said = done.stderr[-1000:].strip() or how
            raise MissingToolError(f"{python}: expected a TensorFlow that runs, found: {said}")
        _, tensorflow, its_python = loaded.split()
        found |= dict(zip(waiting, lines, strict=False))
        if len(lines) < len(waiting):
            found[waiting[len(lines)]] = f"{_ENDED} ({how})"
    return Verdicts(tensorflow, its_python, found)


def table(proofs: Iterable[Proof]) -> str:
    """Markdown: a row per TensorFlow, and a list of the disagreements."""
    lines = [
        "| TensorFlow | Python | oneDNN | models | it runs | the checker agrees on |",
        "| --- | --- | --- | ---: | ---: | ---: |",
    ]
    wrong: dict[Disagreement, list[str]] = {}
    for proof in proofs:
        agreed = proof.models - len(proof.disagreements)
        mark = "yes" if proof.onednn else "no"
        lines.append(f"| {proof.tensorflow} | {proof.python} | {mark} | {proof.models} | {proof.ran} | {agreed} |")
        for one in proof.disagreements:
            wrong.setdefault(one, []).append(f"{proof.tensorflow}{' with oneDNN' if proof.onednn else ''}")
    told = [
        f"- {', '.join(where)}, `{one.model}`: the checker says: {one.checker}; TensorFlow: {one.tensorflow}"
        for one, where in wrong.items()
    ]
    return "\n".join([*lines, *(["", *told] if told else [])])


def prove_all(versions: Iterable[str], models: Path | None = None) -> list[Proof]:
    """Tries models in several TensorFlows, one after the other.

    Args:
        versions: "2.4" means the newest 2.4 that the checker knows.
        models: a folder of SavedModels; by default the checker's test models, which every one of the TensorFlows adds to.

    Raises:
        ExportError: an unknown version, no models, or the test models cannot be made.
        MissingToolError: an environment cannot be made.
    """
    versions = list(dict.fromkeys(full_version(version) for version in versions))
    if models is None and not (_ROOT / "tests" / "export").is_dir():
        raise ExportError(
            "The checker's test models are made in a checkout only. Name a folder of SavedModels with --models."
        )
    pythons = {version: tf22.find_python(version) or environment.make(version) for version in versions}
    with temporary_folder() as folder:
        if models is None:
            log("… the test models")
            made = run_module(CORPUS, folder / "models", *pythons.values(), capture_output=True)
            if made.returncode:
                raise ExportError(f"{CORPUS} failed ({ending(made.returncode)}):\n{made.stderr[-2000:]}")
        tried = models_in(models) if models else corpus(folder / "models")
        proofs = []
        for version, python in pythons.items():
            log(f"… TensorFlow {version}")
            proofs += prove(version, python, tried, folder)
            log(f"  wrong on {len(proofs[-1].disagreements)} of {len(tried)}")
        return proofs


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tf", required=True, nargs="+", metavar="VERSION", help="such as 2.13 or 2.13.0")
    parser.add_argument("--models", type=given_path, help="a folder of SavedModels; default: the checker's test models")
    parser.add_argument("--json", action="store_true", help="print the verdicts as JSON")
    return parser.parse_args()


def main() -> None:
    """Command line."""
    arguments = parse_arguments()
    proofs = prove_all(arguments.tf, arguments.models)
    print(json.dumps([asdict(proof) for proof in proofs], indent=2) if arguments.json else table(proofs))
    sys.exit(any(proof.disagreements for proof in proofs))


if __name__ == "__main__":
    run(main)
