"""Which code made a published figure: the commit, and a hash of the code that the figure depends on.

The hash is over syntax trees, so comments, docstrings, formatting and the modules that names are imported from do not count:
rewording a file or moving it keeps its figures valid, changing what it computes does not.
"""

import ast
import functools
import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

WRITER = tuple(f"export/writer/{name}.py" for name in ("graph", "operators", "values", "member", "combine", "save"))
REWRITES = tuple(
    f"export/normal_form/{name}.py"
    for name in ("attention", "grouped", "half", "maps", "neck", "norms", "proven", "rewrites", "surgery")
)
"""The normal form of the zoo's own networks."""

EXPORTED = (
    *("zoo/constants.py", "zoo/specs.py", "zoo/variants.py", "zoo/weights.py", "zoo/preprocess.py"),
    *(
        f"{side}_models/{name}.py"
        for side in ("torch", "paddle")
        for name in ("checkpoint", "embedder", "layers", "preactivation", "res2net", "resnest", "resnet")
    ),
    *("export/exporters.py", "export/onnx_names.py", *REWRITES, *WRITER),
)
"""What decides an exported model's descriptors and speed: the networks, both exporters, the normal form and the writer. The
margin losses do not: an exported network has no class weights."""

PARITY = (
    *EXPORTED,
    "export/parity/probes.py",
    "export/parity/everywhere.py",
    "parity_tests/random_weights.py",
    "parity_tests/small_models.py",
)
"""What decides a row of parity.csv."""


def made_by(patterns: tuple[str, ...], root: Path = ROOT) -> dict[str, str]:
    """The provenance to store beside a figure: {"commit": short hash, "code": hash of the files that match}.

    Args:
        patterns: globs relative to `root`; each must match a file.
        root: the repository.

    Raises:
        FileNotFoundError: a pattern matches nothing.
    """
    return {"commit": commit(root), "code": code_hash(patterns, root)}


def commit(root: Path = ROOT) -> str:
    """The short hash of HEAD, with "+" if tracked files differ from it; "unknown" outside a git checkout."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        dirty = git("status", "--porcelain", "--untracked-files=no", "--", "*.py")
        return git("rev-parse", "--short=10", "HEAD") + ("+" if dirty else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


@functools.cache
def code_hash(patterns: tuple[str, ...], root: Path = ROOT) -> str:
    """The first 12 hexadecimal digits of the sha256 over every definition in the files that match.

    Raises:
        FileNotFoundError: a pattern matches nothing.
    """
    digest = hashlib.sha256()
    for pattern in patterns:
        paths = sorted(root.glob(pattern))
        if not paths:
            raise FileNotFoundError(f"{pattern} matches no file in {root}; correct the list in {Path(__file__).name}")
        for path in paths:
            digest.update("".join(_tokens(ast.parse(path.read_text(encoding="utf-8")))).encode())
    return digest.hexdigest()[:12]


def _tokens(node: object) -> Iterator[str]:
    """A syntax tree as text, without docstrings, places and what newer Pythons add as empty fields."""
    if isinstance(node, list):
        yield "["
        for item in node:
            yield from _tokens(item)
        yield "]"
    elif not isinstance(node, ast.AST):
        yield repr(node) + ","
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return
    else:
        yield type(node).__name__ + "("
        for field, value in ast.iter_fields(node):
            moved = isinstance(node, ast.ImportFrom) and field in ("module", "level")
            if not moved and value not in (None, []):
                yield field + "="
                yield from _tokens(value)
        yield ")"
