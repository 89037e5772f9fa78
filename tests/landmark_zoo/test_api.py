"""`import landmark_zoo`, end to end on the smallest member."""

import doctest
import subprocess
import sys

import numpy as np
import pytest

import landmark_zoo as lz
from landmark_zoo import api
from zoo.processes import module_environment
from zoo.tolerances import TOLERANCES, compare

SMALL = "resnet10_narrow"


def _isolated(code: str) -> str:
    """What some lines of Python print in a process of their own: the frameworks do not share one."""
    done = subprocess.run(
        [sys.executable, "-c", code], env=module_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    from zoo.checkpoint import Checkpoint, save_checkpoint
    from zoo.weights import initial_weights

    path = tmp_path_factory.mktemp("face") / "small.safetensors"
    spec = lz.get_spec(SMALL).resized(64)
    save_checkpoint(path, Checkpoint(spec, initial_weights(spec, (), 0), 0, {"framework": "torch"}))
    return path


def test_import_is_light():
    code = """
import sys, time
start = time.process_time()
import landmark_zoo
seconds = time.process_time() - start
heavy = [name for name in ("numpy", "torch", "paddle", "tensorflow", "onnx", "PIL", "cyclopts") if name in sys.modules]
print(heavy, seconds < 0.3)"""
    assert _isolated(code).strip() == "[] True"


def test_examples_in_docstrings():
    for module in (lz, api):
        tried = doctest.testmod(module)
        assert tried.attempted and not tried.failed


def test_everything_in_all_exists():
    assert all(getattr(lz, name) is not None for name in lz.__all__)
    assert set(lz.__all__) <= set(dir(lz))
    with pytest.raises(AttributeError, match="nonsense"):
        _ = lz.nonsense


def test_list_models_and_typos():
    assert lz.list_models("resnest269*") == ["resnest269", "resnest269_paddleclas"]
    assert len(lz.list_models()) > 80
    with pytest.raises(lz.SpecError, match="resnest50"):
        lz.get_spec("resnst50")
    with pytest.raises(lz.SpecError, match="torch or paddle"):
        lz.create_model(SMALL, "jax")


@pytest.mark.parametrize("headless", [False, True])
def test_both_frameworks_make_the_same_network(headless, tmp_path):
    found = {}
    for framework, tensor in (("torch", "torch.from_numpy"), ("paddle", "paddle.to_tensor")):
        path = tmp_path / f"{framework}.npz"
        _isolated(f"""
import numpy as np, {framework}
import landmark_zoo as lz
model = lz.create_model({SMALL!r}, {framework!r}, headless={headless})
images = {tensor}(np.random.default_rng(0).normal(size=(2, 3, 64, 96)).astype("float32"))
with {framework}.no_grad():
    maps = model.features(images)
    np.savez({str(path)!r}, descriptor=model(images).numpy(), **{{k: v.numpy() for k, v in maps.items()}})""")
        with np.load(path) as arrays:
            found[framework] = dict(arrays)
    assert found["torch"].keys() == found["paddle"].keys() == {"descriptor", "layer1", "layer2", "layer3", "layer4"}
    assert found["torch"]["descriptor"].shape == (2, lz.get_spec(SMALL).backbone.features if headless else 512)
    both = compare(found["torch"]["descriptor"], found["paddle"]["descriptor"])
    assert both.within(TOLERANCES["torch ↔ paddle"])
    for name in ("layer1", "layer4"):
        np.testing.assert_allclose(found["torch"][name], found["paddle"][name], rtol=0, atol=1e-4)


def test_weights_of_a_checkpoint(checkpoint):
    torch = pytest.importorskip("torch")
    images = torch.zeros(1, 3, 64, 64)
    with torch.no_grad():
        loaded, created = lz.load(checkpoint), lz.create_model(SMALL, weights=checkpoint)
        torch.testing.assert_close(loaded(images), created(images), rtol=0, atol=0)
        headless = lz.create_model(SMALL, weights=checkpoint, headless=True)
        torch.testing.assert_close(headless.features(images), loaded.features(images), rtol=0, atol=0)
    assert headless(images).shape == (1, lz.get_spec(SMALL).backbone.features)
    with pytest.raises(lz.CheckpointError, match="expected one of resnest14_narrow"):
        lz.create_model("resnest14_narrow", weights=checkpoint)


def test_a_published_file(checkpoint, tmp_path):
    torch = pytest.importorskip("torch")
    model = lz.load(checkpoint)
    torch.save(model.backbone.state_dict(), tmp_path / "published.pth")
    imported = lz.create_model(SMALL, weights=tmp_path / "published.pth", headless=True)
    images = torch.ones(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(imported.features(images), model.features(images), rtol=0, atol=0)
    with pytest.raises(lz.CheckpointError):
        lz.create_model("resnest14_narrow", weights=tmp_path / "published.pth", headless=True)


def test_from_export_to_metrics(checkpoint, tmp_path):
    out = tmp_path / "a folder é"
    assert lz.export(checkpoint, out, verify=False) == []
    with pytest.raises(lz.OutputError, match="already contains"):
        lz.export(checkpoint, out, verify=False)
    report = lz.check(out / "saved_model")
    assert report.accepted, report.findings
    pictures = [np.random.default_rng(seed).integers(0, 256, (70, 90, 3), np.uint8) for seed in range(5)]
    served, normal = lz.Embedder(out / "saved_model")(pictures), lz.Embedder(out / "normal_form.onnx")(pictures)
    assert served.dtype == np.float32 and served.shape == (5, 512)
    np.testing.assert_allclose(served, normal, rtol=0, atol=1e-5)
    ranking = lz.search(served, served[3:4], k=2)
    (tmp_path / "rerank.json").write_text('{"format": "landmark-zoo re-ranking 1", "k_reciprocal": {"k1": 2, "k2": 1}}')
    reranked = lz.search(served, served[3:4], k=2, rerank=tmp_path / "rerank.json")
    assert reranked.hits[0][0] == "3" and (reranked.distances != ranking.distances).any()
    assert ranking.hits[0][0] == "3" and ranking.distances.shape == (1, 2)
    assert lz.evaluate(ranking, {"0": ["3"]}) == {"map": 1.0, "precision_1": 1.0, "median_position": 1.0}
    assert lz.evaluate(ranking, {"0": [h for h in "01234" if h not in ranking.hits[0]]})["map"] == 0


def test_two_rankings_are_compared(tmp_path):
    pytest.importorskip("faiss")
    index = np.eye(12, dtype=np.float32)
    truth = {str(number): [str(number)] for number in range(12)}
    right, wrong = lz.search(index, index, k=1), lz.search(index, np.roll(index, 1, axis=0), k=1)
    found = lz.compare(right, wrong, truth)
    assert (found.difference, found.interval, found.queries, found.shown) == (1, (1, 1), 12, True)
    assert str(found).startswith("+1.0000 (95 % interval")
    rows = "".join(f"{query},{' '.join(relevant)},Public\n" for query, relevant in truth.items())
    (tmp_path / "solution.csv").write_text(f"id,images,Usage\n{rows}", encoding="utf-8")
    assert lz.compare(wrong, wrong, tmp_path / "solution.csv").p == 1
    with pytest.raises(lz.SpecError, match="k"):
        lz.compare(right, wrong, truth, k=0)
