"""The retrieval networks that are compared, by a name for tests."""

from collections.abc import Callable
from functools import partial

from parity_tests.published.backbones import ResNeSt, ResNet
from parity_tests.published.cirtorch import cirtorch
from parity_tests.published.dirtorch import dirtorch
from parity_tests.published.fast_reid import RESNET, fast_reid
from parity_tests.published.files import PublishedNetwork
from parity_tests.published.names import pycls
from parity_tests.published.paddleclas import rec_model
from parity_tests.published.pycls import cvnet, pymetric

NETWORKS: dict[str, Callable[[], PublishedNetwork]] = {
    "cirtorch": cirtorch,
    "cirtorch, maximum": partial(cirtorch, pooling="mac"),
    "cirtorch, average, not whitened": partial(cirtorch, pooling="spoc", whitened=False),
    "cirtorch, Lw": partial(cirtorch, whitened=False, learned="retrieval-SfM-120k/ms"),
    "cirtorch, whitened twice": partial(cirtorch, learned="retrieval-SfM-120k/ss"),
    "dirtorch": dirtorch,
    "dirtorch, basic blocks": partial(dirtorch, basic=True),
    "dirtorch, normalised features": partial(dirtorch, norm_features=True),
    "dirtorch, its linear layer unused": partial(dirtorch, without_fc=True),
    "dirtorch, PCA": partial(dirtorch, whitening="Landmarks_clean"),
    "CVNet": cvnet,
    "DELG": partial(cvnet, "globalmodel."),
    "CVNet, the encoder alone": partial(cvnet, ""),
    "pymetric": partial(pymetric, partial(ResNet, pycls("backbone.")), "pycls' names"),
    "pymetric, torchvision's names": partial(pymetric, RESNET, "torchvision's names"),
    "pymetric, ResNeSt": partial(pymetric, partial(ResNeSt, "backbone."), "ResNeSt"),
    "fast-reid, GeM, BNNeck": fast_reid,
    "fast-reid until October 2020, BNNeck": partial(fast_reid, old=True),
    "fast-reid, IBN-a": partial(fast_reid, make=partial(RESNET, ibn=True), described="IBN-a"),
    "fast-reid until October 2020, ResNeSt": partial(
        fast_reid, old=True, make=partial(ResNeSt, "backbone."), described="ResNeSt"
    ),
    "fast-reid, average": partial(fast_reid, pool="avg", last_stride=2),
    "fast-reid, maximum, no neck": partial(fast_reid, pool="max", bnneck=False),
    "fast-reid, reduced": partial(fast_reid, reduced=True),
    "fast-reid, reduced, no BatchNorm": partial(fast_reid, reduced=True, bnneck=False),
    "PaddleClas, FC": partial(rec_model, "fc", last_stride=2),
    "PaddleClas, FC, last stride 1": partial(rec_model, "fc", last_stride=1, usual=False),
    "PaddleClas, VehicleNeck": partial(rec_model, "conv", last_stride=1),
    "PaddleClas, VehicleNeck, last stride 2": partial(rec_model, "conv", last_stride=2, usual=False),
    "PaddleClas, BNNeck": partial(rec_model, "feat_bn", last_stride=2),
}
