"""Places that a command does not choose: the home and temporary folders, the working directory, the locale, closed streams, the
umask. Commands work in all of them, or say in one line what is missing.
"""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from retrieval.demo.dataset import DemoSize, write_demo_data
from retrieval.embeddings import Embeddings
from tests.reliability.namespaces import namespaces
from zoo.checkpoint import Checkpoint, save_checkpoint
from zoo.processes import ROOT
from zoo.tensors import write_tensors
from zoo.variants import get_spec
from zoo.weights import initial_weights

TINY = DemoSize(
    train_landmarks=2, train_images=2, queried_seen=1, queried_unseen=1, index_images=2, queries=1, other_images=1,
    distractors=1, ignored=1,
)  # fmt: skip
COMMANDS: dict[str, tuple[list[str], str]] = {
    # name: (words; the output, or "" if there is none). DIR is the folder of the inputs.
    "import": (
        ["zoo.import_weights", "DIR/published.bin", "--model", "resnet10_narrow", "--headless", "--out", "OUT"],
        "a.safetensors",
    ),
    "search": (
        ["retrieval.search", "--index", "DIR/i.safetensors", "--queries", "DIR/i.safetensors", "--out", "OUT"],
        "a.csv",
    ),
    "whitening": (
        ["retrieval.whitening", "--embeddings", "DIR/i.safetensors", "--dimensions", "4", "--out", "OUT"],
        "w.safetensors",
    ),
    "data check": (["retrieval.data.check", "--data", "DIR/data"], ""),
    "embed": (
        ["torch_models.embed", "--ckpt", "DIR/model.safetensors", "--data", "DIR/data", "--out", "OUT"],
        "e",
    ),
    "write weights": (
        ["torch_models.write_weights", "--ckpt", "DIR/model.safetensors", "--out", "OUT"],
        "a.pth",
    ),
    "from_folder": (["retrieval.data.from_folder", "DIR/photographs", "--out", "OUT"], "made"),
    "shrink": (["retrieval.data.shrink", "--data", "DIR/data", "--side", "32", "--out", "OUT"], "made"),
    "export check": (["export.check", "DIR/saved_model", "--no-contest"], ""),
    "to_onnx": (["export.to_onnx", "--ckpt", "DIR/model.safetensors", "--out", "OUT"], "m.onnx"),
}
QUICK = ("import", "search", "whitening", "data check", "from_folder", "shrink")
FILES = ("import", "search", "whitening")
"""Quick ones that write a file."""
READ_ONLY = 'mount --bind "$PLACE" "$PLACE" && mount -o remount,ro,bind "$PLACE" &&'
"""The superuser writes whatever the modes say, but not here."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, tiny_saved_models) -> Path:
    folder = tmp_path_factory.mktemp("ïnputs with spaces")
    rows = np.random.default_rng(0).normal(size=(30, 8)).astype(np.float32)
    Embeddings(tuple(f"i{n}" for n in range(30)), rows, {"model": "random"}).save(folder / "i.safetensors")
    spec = get_spec("resnet10_narrow")
    weights = initial_weights(spec, (), 0)
    save_checkpoint(folder / "model.safetensors", Checkpoint(spec, weights, 0, {"framework": "torch"}))
    backbone = {name.removeprefix("backbone."): v for name, v in weights.items() if name.startswith("backbone.")}
    write_tensors(folder / "published.bin", backbone)
    (folder / "data").mkdir()
    write_demo_data(folder / "data", size=TINY)
    images = sorted((folder / "data" / "train").rglob("*.jpg"))
    for number, image in enumerate(images):
        photographs = folder / "photographs" / f"class {number % 2}"
        photographs.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, photographs)
    (folder / "saved_model").symlink_to(tiny_saved_models / "good")
    return folder


def run(
    name: str,
    inputs: Path,
    folder: Path,
    *,
    shell: str = "",
    without: Sequence[str] = (),
    before: Sequence[str] = (),
    **environment: str,
) -> subprocess.CompletedProcess:
    """Runs a command after some words of a shell, such as `umask 077;`."""
    words, out = COMMANDS[name]
    words = [word.replace("DIR", str(inputs)).replace("OUT", str(folder / out)) for word in words]
    kept = {key: value for key, value in os.environ.items() if key not in without}
    environment = kept | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment
    command = [*before, "sh", "-c", f'{shell} exec "$@"', "sh", sys.executable, "-m", *words]
    return subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, encoding="utf-8", errors="replace", check=False
    )


def require_done(name: str, done: subprocess.CompletedProcess, folder: Path) -> None:
    out = COMMANDS[name][1]
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    assert not out or (folder / out).exists()


@pytest.mark.parametrize("name", COMMANDS)
def test_without_a_home(name, inputs, tmp_path):
    """Libraries that would keep a cache there do without, and nothing is made in its place."""
    home = tmp_path / "no home"
    gone = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR", "KERAS_HOME", "TORCH_HOME")
    (tmp_path / "file").touch()
    require_done(name, run(name, inputs, tmp_path, without=gone, HOME=str(tmp_path / "file" / "below")), tmp_path)
    assert not home.exists()


@pytest.mark.parametrize("name", COMMANDS)
def test_without_a_temporary_folder(name, inputs, tmp_path):
    require_done(name, run(name, inputs, tmp_path, TMPDIR=str(tmp_path / "none")), tmp_path)


@pytest.mark.skipif(not namespaces(), reason="no namespaces here, so no folder can be made read-only for the superuser")
@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("place", ["HOME", "TMPDIR", "inputs"])
def test_where_a_folder_is_read_only(name, place, inputs, tmp_path):
    """The home, the temporary folder, or that of everything that is read."""
    read_only = inputs if place == "inputs" else tmp_path / "read-only"
    read_only.mkdir(exist_ok=True)
    (tmp_path / "out").mkdir()
    given = {} if place == "inputs" else {place: str(read_only)}
    gone = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR")
    words = {"shell": READ_ONLY, "before": ["unshare", "-rm"], "without": gone, "PLACE": str(read_only)}
    require_done(name, run(name, inputs, tmp_path / "out", **words, **given), tmp_path / "out")


@pytest.mark.skipif(not namespaces(), reason="no namespaces here, so no folder can be made read-only for the superuser")
@pytest.mark.parametrize("name", [name for name in COMMANDS if COMMANDS[name][1]])
def test_an_output_folder_that_is_read_only(name, inputs, tmp_path):
    done = run(name, inputs, tmp_path, shell=READ_ONLY, before=["unshare", "-rm"], PLACE=str(tmp_path))
    assert done.returncode == 2, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    assert "Read-only file system" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", QUICK)
def test_in_a_folder_that_was_removed(name, inputs, tmp_path):
    done = run(name, inputs, tmp_path, shell="mkdir gone; cd gone; rmdir ../gone;")
    require_done(name, done, tmp_path)


@pytest.mark.parametrize("name", QUICK)
def test_in_a_locale_without_letters_beyond_ascii(name, inputs, tmp_path):
    locale = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    folder = tmp_path / "ausgäbe"
    folder.mkdir()
    require_done(name, run(name, inputs, folder, **locale), folder)


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_with_closed_streams(name, closed, inputs, tmp_path):
    done = run(name, inputs, tmp_path, shell=f"exec {closed};")
    require_done(name, done, tmp_path)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(("umask", "mode"), [("077", 0o600), ("022", 0o644), ("000", 0o666)])
def test_files_have_the_modes_of_the_umask(name, umask, mode, inputs, tmp_path):
    require_done(name, run(name, inputs, tmp_path, shell=f"umask {umask};"), tmp_path)
    assert stat.S_IMODE((tmp_path / COMMANDS[name][1]).stat().st_mode) == mode


@pytest.mark.parametrize("name", FILES)
def test_names_that_need_care(name, inputs, tmp_path):
    """Brackets, line feeds, other alphabets, and a beginning that looks like an option's."""
    for folder in ("[a]{b}*?", "line\nfeed", "日本語 🏛", "-out", "a'b\"c", "%s$HOME`x`"):
        place = tmp_path / folder
        place.mkdir()
        require_done(name, run(name, inputs, place), place)
