"""Retrieval networks are imported with their heads, and compute the descriptors of their libraries."""

import dataclasses
from pathlib import Path

import numpy as np
import paddle
import pytest
import torch

import paddle_models.checkpoint
import torch_models.checkpoint
from parity_tests.published.files import PCA, PublishedNetwork, save
from parity_tests.published.networks import NETWORKS
from parity_tests.published.pycls import cvnet
from parity_tests.small_models import shrunk
from zoo.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from zoo.errors import CheckpointError
from zoo.import_weights import import_weights
from zoo.preprocess import normalise
from zoo.published.heads import Stated
from zoo.specs import HeadSpec, StatedPreprocess
from zoo.weights import initial_weights

SPEC = shrunk("resnet50")
AS_IT_IS = StatedPreprocess()
EQUAL = 1e-5
"""Between entries of descriptors of unit norm; cnnimageretrieval-pytorch adds 1e-6 to a norm before it divides."""


def pixels() -> np.ndarray:
    """Three RGB pictures, float32 [3, 97, 65, 3], with gradients and noise, different in every channel."""
    random, (rows, columns) = np.random.default_rng(5), np.mgrid[0:97, 0:65]
    ramps = np.stack([rows * 2.0, columns * 3.0, (rows + columns) * 1.2], axis=-1)
    pictures = [ramps * scale + random.normal(0, 25, ramps.shape) for scale in (0.9, 0.5, 0.2)]
    return np.clip(np.stack(pictures), 0, 255).astype(np.float32)


def imported(
    published: PublishedNetwork, folder: Path, images: StatedPreprocess = AS_IT_IS, **stated: object
) -> Checkpoint:
    said = Stated(images, **{**published.stated, **stated})
    return import_weights(save(published, folder), shrunk(published.variant), stated=said)


def descriptors(checkpoint: Checkpoint, framework: str) -> np.ndarray:
    images = normalise(pixels(), checkpoint.spec.preprocess)
    if framework == "paddle":
        with paddle.no_grad():
            return paddle_models.checkpoint.build(checkpoint)(paddle.to_tensor(images)).numpy()
    with torch.no_grad():
        return torch_models.checkpoint.build(checkpoint)(torch.from_numpy(images)).numpy()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_computes_its_librarys_descriptors(name, tmp_path, capsys):
    published = NETWORKS[name]()
    checkpoint = imported(published, tmp_path)
    said = capsys.readouterr().err
    assert checkpoint.spec.head == HeadSpec(**published.head)
    assert checkpoint.spec.backbone == dataclasses.replace(shrunk(published.variant).backbone, **published.backbone)
    assert checkpoint.spec.preprocess.channels == published.channels
    assert all(name in said for name in published.left_out)
    expected = published.descriptors(pixels()).numpy()
    # Three pictures must not have the same descriptor, or any network would pass.
    assert np.abs(expected[0] - expected[1]).max() > 100 * EQUAL
    for framework in ("torch", "paddle"):
        np.testing.assert_allclose(descriptors(checkpoint, framework), expected, rtol=0, atol=EQUAL, err_msg=framework)
    save_checkpoint(tmp_path / "c.safetensors", checkpoint)
    assert load_checkpoint(tmp_path / "c.safetensors").spec == checkpoint.spec


@pytest.mark.parametrize("prefix", ["module.", "model.", "net/", "student.module."])
@pytest.mark.parametrize("name", ["cirtorch", "CVNet", "pymetric", "fast-reid, reduced"])
def test_a_head_is_found_under_any_prefix(name, prefix, tmp_path):
    published = NETWORKS[name]()
    state = next((value for key, value in published.value.items() if key in ("state_dict", "model_state", "model")))
    if prefix.endswith("/"):
        value: dict = {prefix.removesuffix("/"): state, "other": {"layer1.0.conv1.weight": torch.ones(2, 2)}}
    else:
        value = {f"{prefix}{key}": tensor for key, tensor in state.items()}
    checkpoint = imported(dataclasses.replace(published, value=value, stated={}), tmp_path)
    alone = imported(dataclasses.replace(published, value=state, stated={}), tmp_path)
    assert checkpoint.spec == alone.spec
    assert all(np.array_equal(checkpoint.weights[key], value) for key, value in alone.weights.items())


def with_tensors(published: PublishedNetwork, **shapes: tuple[int, ...]) -> PublishedNetwork:
    """The file with more tensors in its state dict; dots in their names are written as two underscores."""
    key = next(key for key in published.value if key in ("state_dict", "model_state", "model"))
    more = {name.replace("__", "."): torch.ones(shape) for name, shape in shapes.items()}
    return dataclasses.replace(published, value=published.value | {key: published.value[key] | more})


@pytest.mark.parametrize(
    ("name", "shapes", "unknown"),
    [
        ("cirtorch", {"lwhiten__weight": (128, 128)}, r"lwhiten\.weight"),
        ("cirtorch", {"soa4__f__0__0__weight": (4, 128, 1, 1)}, r"soa4\.f\.0\.0\.weight"),  # SOLAR's attention
        (
            "cirtorch",
            {"pool__rpool__p": (1,), "pool__whiten__weight": (128, 128)},
            r"pool\.rpool\.p, pool\.whiten\.weight",
        ),
        ("dirtorch", {"module__conv1x5__weight": (4, 128, 1, 1)}, r"module\.conv1x5\.weight"),
        ("CVNet", {"encoder_q__seb1__weight": (4, 128, 1, 1)}, r"encoder_q\.seb1\.weight"),
        ("pymetric", {"head__attention__weight": (4, 128)}, r"head\.attention\.weight"),
        ("fast-reid, reduced", {"heads__bnneck__weight": (56,)}, r"heads\.bnneck\.weight"),
    ],
)
def test_a_layer_that_the_zoo_does_not_have_is_named(name, shapes, unknown, tmp_path):
    published = with_tensors(NETWORKS[name](), **shapes)
    with pytest.raises(CheckpointError, match=rf"fits resnet50_small but for {unknown}, which(.|\n)*Pass --headless"):
        imported(published, tmp_path)
    import_weights(save(published, tmp_path), SPEC, headless=True)


def test_a_non_local_block_in_the_backbone_is_not_left_out(tmp_path):
    published = with_tensors(NETWORKS["fast-reid, reduced"](), backbone__NL_2__0__g__weight=(3, 3, 1, 1))
    with pytest.raises(CheckpointError, match=r"\+ backbone\.NL_2\.0\.g\.weight"):
        imported(published, tmp_path)


@pytest.mark.parametrize(
    ("name", "setting", "unknown"),
    [
        ("cirtorch", ("meta", "pooling", "rmac"), "pooling 'rmac'"),
        ("cirtorch", ("meta", "regional", True), "regional"),
        ("cirtorch", ("meta", "local_whitening", True), "local_whitening"),
        ("dirtorch", ("model_options", "center_bias", 0.5), "center_bias"),
        ("dirtorch", ("model_options", "pooling", [1]), "pooling list"),
    ],
)
def test_a_setting_that_the_zoo_does_not_have_is_named(name, setting, unknown, tmp_path):
    published = NETWORKS[name]()
    where, key, value = setting
    changed = published.value | {where: published.value[where] | {key: value}}
    with pytest.raises(CheckpointError, match=f"fits resnet50_small but for {unknown}, which"):
        imported(dataclasses.replace(published, value=changed), tmp_path)


def test_an_exponent_per_channel_is_shown(tmp_path):
    with pytest.raises(CheckpointError, match=r"! pool\.p: expected \[1\], found \[128\]"):
        imported(with_tensors(NETWORKS["cirtorch"](), pool__p=(128,)), tmp_path)


@pytest.mark.parametrize(
    ("name", "stated", "message"),
    [
        ("cirtorch", {"pool": "avg"}, "has an exponent of GeM, so that --pool avg is wrong"),
        (
            "cirtorch",
            {"whitening": "none"},
            "no whitening 'none'; it has 'retrieval-SfM-120k/ss', 'retrieval-SfM-120k/ms'",
        ),
        ("CVNet", {"whitening": "none"}, "no whitening 'none'; it has none"),
        ("dirtorch", {"images": StatedPreprocess(mean=(123.0, 116.0, 103.0))}, "divide by 255"),
    ],
)
def test_what_the_user_states_must_be_possible(name, stated, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        imported(NETWORKS[name](), tmp_path, **stated)


def test_a_pooling_that_nothing_tells_is_asked_for(tmp_path):
    state = NETWORKS["cirtorch, maximum"]().value["state_dict"]
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="nothing in it says how it pools .*--pool"):
        import_weights(tmp_path / "a.pth", SPEC)
    assert import_weights(tmp_path / "a.pth", SPEC, stated=Stated(pool="max")).spec.head.pool == "max"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"components_": np.ones((40, 95))}, "do not fit together|for descriptors of 95"),
        ({"explained_variance_": np.zeros(40)}, "components and variances do not fit together"),
        ({"mean_": np.ones(7)}, "a mean of .7., which do not fit together"),
        ({"components_": None}, "a PCA without its components"),
    ],
)
def test_a_damaged_pca_is_refused(change, message, tmp_path):
    published = NETWORKS["dirtorch, PCA"]()
    attributes = published.value["pca"]["Landmarks_clean"].__dict__ | change
    changed = published.value | {"pca": {"Landmarks_clean": PCA(**attributes)}}
    with pytest.raises(CheckpointError, match=message):
        imported(dataclasses.replace(published, value=changed), tmp_path)


def test_the_pixels_of_the_file_and_of_the_user(tmp_path):
    published = NETWORKS["fast-reid, reduced"]()
    found = imported(published, tmp_path).spec.preprocess
    np.testing.assert_allclose(found.mean, (120 / 255, 116 / 255, 103 / 255))
    assert imported(published, tmp_path, StatedPreprocess(mean=(0.1, 0.2, 0.3))).spec.preprocess.mean == (0.1, 0.2, 0.3)
    flipped = imported(published, tmp_path, StatedPreprocess(channels="bgr")).spec.preprocess
    np.testing.assert_allclose(flipped.mean, (103 / 255, 116 / 255, 120 / 255))


@pytest.mark.parametrize("name", ["fast-reid, reduced", "CVNet"])
def test_a_backbone_alone_keeps_its_librarys_pooling_stride_and_channels(name, tmp_path, capsys):
    published = NETWORKS[name]()
    checkpoint = import_weights(save(published, tmp_path), SPEC, headless=True)
    assert checkpoint.spec.backbone == dataclasses.replace(SPEC.backbone, **published.backbone)
    assert checkpoint.spec.preprocess.channels == published.channels
    assert "Caffe" not in capsys.readouterr().err


def test_a_classifier_of_pycls_has_bgr_images(tmp_path):
    state = {key: value for key, value in cvnet("").value["model_state"].items() if not key.startswith("head.pool")}
    torch.save({"model_state": state}, tmp_path / "a.pyth")
    assert import_weights(tmp_path / "a.pyth", SPEC, headless=True).spec.preprocess.channels == "bgr"
    with pytest.raises(CheckpointError, match=r"neck\.linear\.weight .* is missing"):
        import_weights(tmp_path / "a.pyth", SPEC)
    with pytest.raises(CheckpointError, match="--whitening are for the head"):
        import_weights(tmp_path / "a.pyth", SPEC, headless=True, stated=Stated(pool="gem"))


@pytest.mark.parametrize("name", ["cirtorch, Lw", "dirtorch, PCA"])
def test_settings_are_read_from_files_of_older_pytorch(name, tmp_path):
    published = NETWORKS[name]()
    stated = Stated(**published.stated)
    new, old = (
        import_weights(save(published, tmp_path, legacy=legacy), SPEC, stated=stated) for legacy in (False, True)
    )
    assert old.spec == new.spec
    assert all(np.array_equal(old.weights[key], value) for key, value in new.weights.items())


def test_what_was_assumed_is_said(tmp_path, capsys):
    imported(NETWORKS["fast-reid, average"](), tmp_path)
    said = capsys.readouterr().err
    assert "assumed stem_pool ceil, as in fast-reid's configurations" in said
    assert "avg was assumed" in said
    assert "last_stride" not in said, "it was stated"
    imported(NETWORKS["PaddleClas, VehicleNeck"](), tmp_path)
    assert "assumed last_stride 1, as in PaddleClas's configurations" in capsys.readouterr().err


def test_a_dilated_last_layer_is_not_taken_for_a_plain_one(tmp_path):
    """fast-reid's ResNeSts are dilated, unless LAST_STRIDE is 2; their stems' poolings are padded."""
    spec = shrunk("resnest50").headless()
    state = {name: torch.from_numpy(value) for name, value in initial_weights(spec, (), 0).items()}
    torch.save({"model": state | {"heads.weight": torch.ones(3, 128)}}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="dilates .* pass --last-stride 2"):
        import_weights(tmp_path / "a.pth", spec, headless=True)
    backbone = import_weights(tmp_path / "a.pth", spec, headless=True, stated=Stated(last_stride=2)).spec.backbone
    assert backbone == spec.backbone
