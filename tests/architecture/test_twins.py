"""`torch_models` and `paddle_models` mirror each other: same files, public names, signatures; and every name is documented.

Read from the source, so that neither framework is imported.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = [ROOT / "torch_models", ROOT / "paddle_models"]
FILES = sorted({path.relative_to(package).as_posix() for package in PACKAGES for path in package.rglob("*.py")})
OF_PADDLE_ONLY = {"canonical_tensors", "to_paddle", "from_paddle"}
"""Paddle's names and layouts differ from the canonical ones, which are PyTorch's."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _public(source: str) -> dict[str, str]:
    """{public name: its kind and parameters} of the functions, classes, methods and constants of a file."""
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, Function):
            found[node.name] = _signature(node)
        elif isinstance(node, ast.ClassDef):
            found[node.name] = "class"
            found |= {f"{node.name}.{item.name}": _signature(item) for item in node.body if isinstance(item, Function)}
            found |= {f"{node.name}.{name}": "attribute" for item in node.body for name in _assigned(item)}
        else:
            found |= dict.fromkeys(_assigned(node), "constant")
    return {name: kind for name, kind in found.items() if not any(_private(part) for part in name.split("."))}


def _private(name: str) -> bool:
    return name.startswith("_") and name != "__init__"


def _assigned(node: ast.stmt) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _signature(node: Function) -> str:
    """Decorators, parameters by kind, and defaults, such as "@property (self)"."""
    arguments = node.args
    decorators = " ".join(f"@{ast.unparse(decorator)} " for decorator in node.decorator_list)
    kind = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg):
        if argument is not None:
            argument.annotation = None  # the frameworks' own types
    # `torch.no_grad` and `paddle.float32` have the same meaning in both.
    return re.sub(r"\b(torch|paddle)\.", "framework.", f"{kind}{decorators}({ast.unparse(arguments)})")


def _undocumented(source: str) -> list[str]:
    """Public functions, classes and methods without a docstring; `forward`, `backward` and `__init__` are their class's."""
    nodes = ast.parse(source)
    missing = [] if ast.get_docstring(nodes) else ["the file"]
    for node in nodes.body:
        inner = node.body if isinstance(node, ast.ClassDef) else []
        for item in (node, *inner):
            if (
                isinstance(item, Function | ast.ClassDef)
                and not item.name.startswith("_")
                and item.name not in ("forward", "backward")
            ):
                missing += [] if ast.get_docstring(item) else [item.name]
    return missing


def _differences(left: str, right: str) -> dict[str, tuple[str | None, str | None]]:
    ours, theirs = _public(left), _public(right)
    names = (ours.keys() | theirs.keys()) - OF_PADDLE_ONLY
    return {name: (ours.get(name), theirs.get(name)) for name in names if ours.get(name) != theirs.get(name)}


def test_both_packages_have_the_same_files():
    assert FILES
    for package in PACKAGES:
        assert [name for name in FILES if not (package / name).is_file()] == [], package.name


@pytest.mark.parametrize("name", FILES)
def test_public_names_and_signatures_are_the_same(name):
    left, right = ((package / name).read_text(encoding="utf-8") for package in PACKAGES)
    assert _differences(left, right) == {}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_public_names_have_docstrings(package, name):
    assert _undocumented((package / name).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("def f(a): ...", "def f(b): ..."),
        ("def f(a, *, b=1): ...", "def f(a, b=1): ..."),
        ("def f(a=1): ...", "def f(a=2): ..."),
        ("def f(a): ...", "async def f(a): ..."),
        ("class A:\n    @property\n    def f(self): ...", "class A:\n    def f(self): ..."),
        ("class A:\n    x = 1", "class A:\n    y = 1"),
        ("LIMIT = 1", ""),
    ],
)
def test_a_difference_is_seen(left, right):
    assert _differences(left, right)
    assert _differences(left, left) == {}


def test_a_missing_docstring_is_seen():
    assert _undocumented('"""x"""\nclass A:\n    "x"\n    def f(self): ...') == ["f"]
