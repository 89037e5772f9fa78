"""The extras resolve to one consistent set of packages; `cpu` and `gpu` are alternatives. Nothing is installed here."""

import base64
import hashlib
import importlib
import os
import re
import subprocess
import tomllib
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import pytest

from zoo.environments import find_uv

ROOT = Path(__file__).resolve().parents[2]
PADDLE_INDEX = "https://www.paddlepaddle.org.cn/packages/stable/cu126/"
PYPI = "https://pypi.org/simple/pip/"
CONFLICTING = [("paddlepaddle", "paddlepaddle-gpu"), ("faiss-cpu", "faiss-gpu"), ("faiss-cpu", "faiss-gpu-cu12")]
"""Builds of one library under two names: both install files to the same places."""
PADDLE_GPU_REQUIRES = (
    "httpx", "numpy>=1.21", "protobuf>=3.20.2", "Pillow", "opt_einsum==3.3.0", "networkx", "typing_extensions", "safetensors>=0.6.0"
)  # fmt: skip
"""What paddlepaddle 3.3.1 declares for the CPU. The GPU wheel adds NVIDIA's libraries, which nothing else here pins."""

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONSTRAINTS = dict(
    line.split(";")[0].strip().split("==")
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if "==" in line and not line.startswith("#")
)


def reachable(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=10).close()
    except (urllib.error.URLError, TimeoutError):
        return False
    return True


@pytest.fixture(scope="module")
def uv() -> str:
    """uv, if it and PyPI can be used. In CI both must be."""
    uv = find_uv()
    if uv and reachable(PYPI):
        return uv
    reason = "needs uv (`pip install uv`) and PyPI"
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


@pytest.fixture(scope="module")
def paddle_gpu(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """uv's options that make paddlepaddle-gpu 3.x known: Paddle's index, or an empty wheel if that is unreachable."""
    if reachable(PADDLE_INDEX):
        return ["--index", PADDLE_INDEX]
    folder = tmp_path_factory.mktemp("paddle")
    _write_empty_wheel(folder, "paddlepaddle_gpu", CONSTRAINTS["paddlepaddle"], PADDLE_GPU_REQUIRES)
    return ["--find-links", str(folder), "--index-strategy", "unsafe-best-match"]


def _write_empty_wheel(folder: Path, name: str, version: str, requires: tuple[str, ...]) -> None:
    """A wheel that consists of its metadata."""
    information = f"{name}-{version}.dist-info"
    metadata = [
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}",
        *(f"Requires-Dist: {it}" for it in requires),
    ]
    files = {
        f"{information}/METADATA": "\n".join(metadata) + "\n",
        f"{information}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(text.encode())}\n"
    files[f"{information}/RECORD"] = record + f"{information}/RECORD,,\n"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)


def resolve(uv: str, extras: str, *options: str, python: str = "3.11") -> dict[str, str]:
    """{name of a package: version} that the project with `extras` resolves to.

    Raises:
        AssertionError: nothing satisfies all requirements.
    """
    chosen = [f"--extra={extra}" for extra in extras.split(",")]
    command = [
        uv,
        "pip",
        "compile",
        "--quiet",
        "--no-header",
        "--no-annotate",
        "--no-config",
        "--python-version",
        python,
    ]
    command += ["--python-platform", "x86_64-manylinux_2_28", *chosen, *options, "pyproject.toml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(line.split("==") for line in done.stdout.split("\n") if "==" in line)


def conflicts(resolved: dict[str, str]) -> list[tuple[str, str]]:
    return [pair for pair in CONFLICTING if set(pair) <= set(resolved)]


@pytest.mark.parametrize("python", ["3.11", "3.12"])
@pytest.mark.parametrize("runtime", ["cpu", "gpu"])
def test_everything_resolves_for_one_runtime(runtime, python, uv, paddle_gpu):
    resolved = resolve(uv, f"all,{runtime},dev,docs", *(paddle_gpu if runtime == "gpu" else ()), python=python)
    assert conflicts(resolved) == []
    suffix = {"cpu": ("paddlepaddle", "faiss-cpu"), "gpu": ("paddlepaddle-gpu", "faiss-gpu-cu12")}[runtime]
    assert set(suffix) <= set(resolved)
    assert resolved[suffix[0]].startswith("3.")


def test_both_runtimes_share_the_packages_that_the_conversion_depends_on(uv, paddle_gpu):
    cpu, gpu = resolve(uv, "all,cpu"), resolve(uv, "all,gpu", *paddle_gpu)
    for name in ("numpy", "protobuf", "onnx", "onnxruntime", "tensorflow", "torch", "paddle2onnx", "safetensors"):
        assert cpu[name] == gpu[name]
    assert cpu["paddlepaddle"].split(".")[:2] == gpu["paddlepaddle-gpu"].split(".")[:2]


def test_the_locked_versions_satisfy_the_extras(uv):
    # 3.11.5 is the oldest Python that the locked mkdocs-material supports.
    resolved = resolve(uv, "all,cpu,dev,docs", "--constraint", "constraints.txt", python="3.11.5")
    locked = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in CONSTRAINTS.items()}
    # nvidia's libraries, triton and cuda-* come with torch's CUDA build only; pip freeze leaves setuptools and wheel out.
    only_cuda = re.compile(r"nvidia-|cuda-|triton$|setuptools$|wheel$|pip$")
    missing = {name for name in resolved if name not in locked and not only_cuda.match(name)}
    assert not missing, "constraints.txt must lock these too"
    assert {name: version for name, version in resolved.items() if locked.get(name, version) != version} == {}


def test_both_runtimes_at_once_are_seen_as_a_conflict(uv, paddle_gpu):
    """The check that the other tests rely on finds what it must find."""
    assert len(conflicts(resolve(uv, "all,cpu,gpu", *paddle_gpu))) == 2


@pytest.mark.parametrize("extras", ["torch", "paddle", "export", "retrieval", "onnx2tf", "torch,export,retrieval"])
def test_no_extra_but_cpu_and_gpu_chooses_a_runtime(extras, uv):
    resolved = resolve(uv, extras)
    assert not {name for pair in CONFLICTING for name in pair} & set(resolved)


def test_the_base_needs_no_framework():
    names = {re.split(r"[\[<>=!~ ]", requirement)[0].lower() for requirement in PROJECT["dependencies"]}
    assert not names & {"torch", "paddlepaddle", "tensorflow", "onnx", "onnxruntime", "faiss-cpu"}


def test_torch_and_torchvision_are_a_matching_pair():
    # torchvision 0.N is built for torch 2.(N-15), and loads its operators only into that version
    torch, vision = (CONSTRAINTS[name].split(".") for name in ("torch", "torchvision"))
    assert torch[0] == "2" and vision[0] == "0"
    assert int(vision[1]) - int(torch[1]) == 15 and vision[2] == torch[2]


@pytest.mark.parametrize("name", ["torch", "torchvision", "timm"])
def test_torch_and_what_loads_its_operators_import_in_the_locked_version(name):
    assert importlib.import_module(name).__version__.partition("+")[0] == CONSTRAINTS[name]
