"""The rules of the architecture, checked by reading the imports."""

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = {
    "zoo", "training", "torch_models", "paddle_models", "retrieval", "export", "submission", "pipeline", "landmark_zoo"
}  # fmt: skip
BESIDE_ROOMS = {
    *(".ci", ".github", ".gitignore", ".pre-commit-config.yaml"),
    *("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "SECURITY.md"),
    *("Makefile", "conftest.py", "constraints.txt", "mkdocs.yml", "pyproject.toml"),
    *("benchmarks", "docs", "parity_tests", "recipes", "tests"),
}
FRAMEWORKS = {"torch", "paddle", "tensorflow", "tf_keras", "onnx", "onnxruntime"}
TORCH_SEARCH = {ROOT / "retrieval" / f"{name}_candidates.py" for name in ("torch", "bfloat16")}
"""Search with PyTorch, in a process that no other framework shares; they are imported for large searches only."""
MAY_IMPORT = {
    "zoo": set(),
    "training": {"zoo", "retrieval.data"},
    "torch_models": {"zoo", "training", "retrieval.data", "retrieval.describer", "retrieval.embed"},
    "paddle_models": {"zoo", "training", "retrieval.data", "retrieval.describer", "retrieval.embed"},
    "retrieval": {"zoo"},
    "submission": {"zoo", "export"},
    "export": {"zoo", "retrieval"},
    "pipeline": {"zoo", "training", "retrieval"},
}


def _imports(path: Path, inside_functions: bool) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = ast.walk(tree) if inside_functions else tree.body
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from training import loop` imports the module training.loop
            found |= (
                {node.module} if node.module not in ROOMS else {f"{node.module}.{alias.name}" for alias in node.names}
            )
    return found


MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for room in sorted(ROOMS)
    for path in sorted((ROOT / room).rglob("*.py"))
}


def _module(name: str) -> str | None:
    """The project's module that an imported name is or belongs to."""
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name or None


def _imported_names(path: Path) -> set[str]:
    """Every dotted name that a file imports, including inside functions, as `package.module.name`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _circle(arrows: dict[str, set[str]]) -> list[str] | None:
    """Names that import each other in a circle, or None."""
    try:
        graphlib.TopologicalSorter(arrows).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return None


def _arrows() -> dict[str, set[str]]:
    """{module: the project's modules that it imports}."""
    return {
        name: {module for imported in _imported_names(path) if (module := _module(imported)) and module != name}
        for name, path in MODULES.items()
    }


def test_no_modules_import_each_other_in_a_circle():
    # A package's __init__ re-exports its modules, which import each other directly.
    arrows = {name: {m for m in found if not name.startswith(f"{m}.")} for name, found in _arrows().items()}
    assert _circle(arrows) is None


def test_no_rooms_import_each_other_in_a_circle():
    """A room is a top-level package, or a sub-package of `export` or `retrieval`."""

    def room(module: str) -> str:
        first, *rest = module.split(".")
        inner = f"{first}.{rest[0]}" if rest and first in ("export", "retrieval") else first
        return inner if (ROOT / inner.replace(".", "/")).is_dir() else first

    arrows: dict[str, set[str]] = {}
    for module, found in _arrows().items():
        arrows.setdefault(room(module), set()).update({room(name) for name in found} - {room(module)})
    # The commands at the top of `export` call its sub-packages; a sub-package may import a top file only if that imports none.
    assert _circle({name: found - {name.partition(".")[0]} for name, found in arrows.items()}) is None


def test_a_circle_is_seen():
    assert _circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})
    assert _circle({"a": {"b"}, "b": {"c"}, "c": set()}) is None


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_what_it_may(room):
    for path in (ROOT / room).rglob("*.py"):
        for name in _imports(path, inside_functions=room != "export"):
            if name.split(".")[0] in ROOMS - {room}:
                allowed = any(name == rule or name.startswith(f"{rule}.") for rule in MAY_IMPORT[room])
                assert allowed, f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("room", ["zoo", "training", "retrieval", "pipeline"])
def test_what_both_frameworks_share_imports_neither(room):
    for path in {*(ROOT / room).rglob("*.py")} - TORCH_SEARCH:
        found = {name.split(".")[0] for name in _imports(path, inside_functions=True)}
        assert not found & FRAMEWORKS, path.name


def test_the_search_does_not_import_a_framework_by_itself():
    code = "import sys, retrieval.search; print([name for name in ('torch', 'paddle', 'tensorflow') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("side", ["torch", "paddle"])
def test_a_model_package_imports_its_own_framework_alone(side):
    for path in (ROOT / f"{side}_models").rglob("*.py"):
        found = {name.split(".")[0] for name in _imports(path, inside_functions=True)}
        assert not found & (FRAMEWORKS - {side}), path.name


def test_nothing_unpickles():
    # pickletools parses a pickle and executes nothing.
    forbidden = r"import pickle\b|allow_pickle=True|torch\.load\(|paddle\.load\(|yaml\.load\(|shell=True"
    for room in MAY_IMPORT:
        for path in (ROOT / room).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert not re.findall(forbidden, text), path.name


def _committed(pattern: str) -> list[str]:
    """The committed files that match, relative to the root."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout to list committed files")
    return subprocess.check_output(["git", "ls-files", pattern], cwd=ROOT, text=True).splitlines()


def test_the_root_holds_what_belongs_there():
    """A command's output that was written into the root by mistake is easily committed."""
    assert {name.partition("/")[0] for name in _committed("*")} == ROOMS | BESIDE_ROOMS


def test_the_commands_have_an_example_in_their_help():
    for name in _committed("*.py"):
        text = (ROOT / name).read_text(encoding="utf-8")
        if "argparse.ArgumentParser(" in text and not name.startswith("tests/"):
            assert "python " in text, f"{name}: --help should start with a worked example"


def test_every_text_file_names_its_encoding():
    """Without one, Python takes the locale's: a file would mean something else on another machine."""
    found = []
    for path in MODULES.values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            given = {keyword.arg for keyword in node.keywords}
            modes = [argument.value for argument in node.args[1:2] if isinstance(argument, ast.Constant)]
            opens = isinstance(node.func, ast.Name) and name == "open" and not any("b" in str(mode) for mode in modes)
            opens = opens and not isinstance(node.args[1] if len(node.args) > 1 else None, ast.IfExp)
            writes = isinstance(node.func, ast.Attribute) and name in ("read_text", "write_text")
            pipes = name in ("run", "Popen") and given & {"text", "universal_newlines"}
            if (opens or writes or pipes) and "encoding" not in given:
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not found


def test_paths_that_users_give_are_made_real_by_one_function():
    """`Path.resolve` raises a RuntimeError for a link that leads back to itself; `zoo.inputs.real_path` does not."""
    found = {
        f"{path.relative_to(ROOT)}:{number}"
        for path in MODULES.values()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if ".resolve()" in line and "__file__" not in line
    }
    assert not found
