"""What no tensor of a published file tells is stated, read from the file's settings, or assumed; a line says which."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from parity_tests.published.files import PublishedNetwork, save
from parity_tests.published.networks import NETWORKS
from parity_tests.small_models import shrunk
from zoo.checkpoint import Checkpoint
from zoo.errors import CheckpointError
from zoo.import_weights import import_file, import_weights
from zoo.published.heads import Stated
from zoo.published.strides import with_strides
from zoo.specs import StatedPreprocess
from zoo.weights import initial_weights

SPEC = shrunk("resnet50")


def imported(published: PublishedNetwork, folder: Path, *, headless: bool = False, **stated: object) -> Checkpoint:
    path, said = save(published, folder), {**published.stated, **stated}
    return import_weights(path, SPEC, headless=headless, stated=Stated(**said))


def changed(published: PublishedNetwork, key: str, **values: object) -> PublishedNetwork:
    """The file with other entries in one of its mappings."""
    return dataclasses.replace(published, value=published.value | {key: published.value[key] | values})


def without(published: PublishedNetwork, *beginnings: str) -> PublishedNetwork:
    """fast-reid's file without the tensors whose names begin like that."""
    kept = {name: value for name, value in published.value["model"].items() if not name.startswith(beginnings)}
    return dataclasses.replace(published, value={"model": kept})


def plain_backbone(folder: Path) -> Path:
    """A backbone under the names that many libraries share."""
    tensors = {name.removeprefix("backbone."): value for name, value in initial_weights(SPEC.headless(), (), 2).items()}
    save_file(tensors, folder / "a.safetensors")
    return folder / "a.safetensors"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("CVNet", "bgr, mean 0.406 0.456 0.485, std 0.225 0.224 0.229 (DELG or CVNet's; --channels, --mean and"),
        ("cirtorch", "rgb, mean 0.4 0.5 0.45, std 0.21 0.22 0.23 (the file's; --channels, --mean and --std state"),
        ("fast-reid, reduced", "rgb, mean 0.4706 0.4549 0.4039, std 0.2275 0.2235 0.2196 (the file's; --channels"),
        ("PaddleClas, FC", "rgb, mean 0.485 0.456 0.406, std 0.229 0.224 0.225 (PaddleClas's; --channels, --mean"),
    ],
)
def test_channels_mean_and_deviation_are_said(name, words, tmp_path, capsys):
    imported(NETWORKS[name](), tmp_path)
    assert f"images: {words}" in capsys.readouterr().err


def test_what_is_stated_is_not_called_somebody_elses(tmp_path, capsys):
    imported(NETWORKS["CVNet"](), tmp_path, preprocess=StatedPreprocess(channels="rgb"))
    said = capsys.readouterr().err
    assert "images: rgb, mean 0.485 0.456 0.406" in said
    assert "(DELG or CVNet's, but for the stated channels; --channels" in said
    every = StatedPreprocess(channels="rgb", mean=(0.1, 0.2, 0.3), std=(0.3, 0.2, 0.1))
    imported(NETWORKS["CVNet"](), tmp_path, preprocess=every)
    assert "images: rgb, mean 0.1 0.2 0.3, std 0.3 0.2 0.1 (as stated)" in capsys.readouterr().err


def test_a_deviation_of_1_is_of_pixels_to_255(tmp_path):
    """detectron's convention, in fast-reid's buffers."""
    published = changed(NETWORKS["fast-reid, reduced"](), "model", pixel_std=torch.ones(1, 3, 1, 1))
    np.testing.assert_allclose(imported(published, tmp_path).spec.preprocess.std, [1 / 255] * 3)


@pytest.mark.parametrize("mean", [torch.ones(4), torch.ones(3, dtype=torch.complex64)])
def test_buffers_of_pixels_are_read_unless_another_mean_is_stated(mean, tmp_path, capsys):
    published = changed(NETWORKS["fast-reid, reduced"](), "model", pixel_mean=mean)
    with pytest.raises(CheckpointError, match="the pixels' mean is not three numbers; pass --mean"):
        imported(published, tmp_path)
    stated = StatedPreprocess(mean=(0.1, 0.2, 0.3), std=(0.3, 0.2, 0.1))
    imported(published, tmp_path, preprocess=stated)
    said = capsys.readouterr().err
    assert "(fast-reid's, but for the stated mean and std; --channels" in said
    assert "heads.weight" in said and "pixel_mean" not in said, "it is not left out"


def test_buffers_of_pixels_are_only_fast_reids(tmp_path):
    published = changed(NETWORKS["pymetric"](), "model_state", pixel_mean=torch.full((3,), 100.0))
    assert imported(published, tmp_path).spec.preprocess.mean == (0.406, 0.456, 0.485)


def test_a_mean_that_is_none_can_be_stated(tmp_path):
    published = changed(NETWORKS["cirtorch"](), "meta", mean="ImageNet's")
    with pytest.raises(CheckpointError, match="a mean that is not three numbers below 256; pass --mean"):
        imported(published, tmp_path)
    stated = StatedPreprocess(mean=(0.1, 0.2, 0.3))
    for headless in (False, True):
        found = imported(published, tmp_path, headless=headless, preprocess=stated).spec.preprocess
        assert (found.mean, found.std) == ((0.1, 0.2, 0.3), (0.21, 0.22, 0.23))


def test_an_impossible_mean_is_refused_before_the_file_is_read(tmp_path):
    with pytest.raises(CheckpointError, match="divide by 255"):
        import_weights(tmp_path / "none.pth", SPEC, stated=Stated(StatedPreprocess(mean=(123.0, 116.0, 103.0))))


def test_the_stems_pooling_can_be_stated(tmp_path, capsys):
    found = imported(NETWORKS["fast-reid, reduced"](), tmp_path, stem_pool="padded", last_stride=2).spec.backbone
    assert (found.stem_pool, found.last_stride) == ("padded", 2)
    assert "assumed" not in capsys.readouterr().err
    found = import_weights(plain_backbone(tmp_path), SPEC, headless=True, stated=Stated(stem_pool="ceil")).spec
    assert found.backbone.stem_pool == "ceil"


@pytest.mark.parametrize("sign", ["heads.pool_layer.p", "heads.classifier.weight"])
def test_fast_reid_is_recognised_without_a_neck(sign, tmp_path, capsys):
    published = without(NETWORKS["fast-reid, GeM, BNNeck"](), "heads.bottleneck", "heads.weight", "heads.pool_layer")
    published = changed(published, "model", **{sign: torch.ones(1) if sign.endswith("p") else torch.ones(7, 128)})
    spec = imported(published, tmp_path).spec
    assert (spec.head.neck, spec.head.pool) == ("none", "gem" if sign.endswith("p") else "avg")
    assert (spec.backbone.last_stride, spec.backbone.stem_pool) == (1, "ceil")
    said = capsys.readouterr().err
    assert "assumed last_stride 1 and stem_pool ceil, as in fast-reid's configurations" in said
    assert "(--last-stride and --stem-pool state others)" in said


def test_settings_whose_library_does_not_fit_the_names_are_said(tmp_path, capsys):
    published = NETWORKS["cirtorch, Lw"]()
    tensors = {name.replace("features.", "feats."): value for name, value in published.value["state_dict"].items()}
    elsewhere = dataclasses.replace(published, value=published.value | {"state_dict": tensors}, stated={})
    preprocess = imported(elsewhere, tmp_path, headless=True).spec.preprocess
    assert preprocess.mean == (0.485, 0.456, 0.406)
    assert (
        "settings are those of cnnimageretrieval-pytorch, but its names are not, so the settings were left"
        in capsys.readouterr().err
    )


def test_the_library_is_recorded(tmp_path):
    assert imported(NETWORKS["CVNet"](), tmp_path).provenance["published_by"] == "DELG or CVNet"
    assert "published_by" not in import_weights(plain_backbone(tmp_path), SPEC, headless=True).provenance


def test_an_import_says_once_what_it_wrote(tmp_path, capsys):
    source = plain_backbone(tmp_path)
    import_file(source, SPEC, tmp_path / "out.safetensors", headless=True, prefix=None, stated=Stated())
    [line] = [line for line in capsys.readouterr().err.splitlines() if "values, from torch" in line]
    assert line.startswith("resnet50_small: ")


def test_variants_with_the_same_tensors_are_told_apart():
    found = with_strides(["resnet50", "resnet50_v1"])
    assert found == "resnet50 (stride in the 3×3) or resnet50_v1 (stride in the first 1×1)"
    assert with_strides(["resnet50", "resnet101"]) == "resnet50 or resnet101"


def test_settings_of_another_library_tell_nothing_of_the_head(tmp_path):
    """A file of CVNet's whose settings are cirtorch's: neither their pooling, which the zoo does not have, nor their mean counts."""
    meta = NETWORKS["cirtorch"]().value["meta"] | {"pooling": "rmac", "mean": [0.1, 0.1, 0.1]}
    published = NETWORKS["CVNet"]()
    spec = imported(dataclasses.replace(published, value=published.value | {"meta": meta}), tmp_path).spec
    assert (spec.head.pool, spec.preprocess.mean) == ("gem", (0.406, 0.456, 0.485))
