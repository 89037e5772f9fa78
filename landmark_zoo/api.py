"""The functions of `import landmark_zoo`. Each one only calls the room that does the work, and imports it when called."""

import fnmatch
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from landmark_zoo import extras
from zoo.errors import CheckpointError, DataError, SpecError

if TYPE_CHECKING:
    import numpy as np

    import paddle_models.embedder
    import torch_models.embedder
    from export.check import Report
    from export.parity import Row
    from retrieval.comparison import Comparison
    from retrieval.image_batches import Image
    from retrieval.ranking import Ranking
    from retrieval.store import Rows
    from zoo.specs import ModelSpec

    Vectors = Rows | str | os.PathLike | np.ndarray

Framework = Literal["torch", "paddle"]
EXPORT_PACKAGES = ("onnx", "onnxsim", "onnx_graphsurgeon", "onnxruntime", "tensorflow")
FRAMEWORK_PACKAGES = {"torch": ("torch",), "paddle": ("paddle", "paddle2onnx")}


def list_models(pattern: str = "*") -> list[str]:
    """Names of the variants that match a shell pattern, in the order of the table `zoo.variants`.

    Args:
        pattern: as in `fnmatch`, for example `resnest*`.

    Example:
        >>> list_models("*narrow")
        ['resnet10_narrow', 'resnest14_narrow']
    """
    from zoo.variants import VARIANTS

    return [name for name in VARIANTS if fnmatch.fnmatchcase(name, pattern)]


def get_spec(name: str) -> "ModelSpec":
    """The spec of a variant: backbone, head, loss and preprocessing.

    Args:
        name: our name, or a published one such as `timm resnet50d`.

    Raises:
        SpecError: there is no such variant; the message names the nearest ones.

    Example:
        >>> get_spec("timm resnest50d").name
        'resnest50'
    """
    from zoo.lookup import find_spec

    return find_spec(name)


@overload
def create_model(
    name: str,
    framework: Literal["torch"] = "torch",
    weights: str | os.PathLike | None = None,
    headless: bool = False,
) -> "torch_models.embedder.Embedder": ...
@overload
def create_model(
    name: str, framework: Literal["paddle"], weights: str | os.PathLike | None = None, headless: bool = False
) -> "paddle_models.embedder.Embedder": ...
def create_model(
    name: str,
    framework: Framework = "torch",
    weights: str | os.PathLike | None = None,
    headless: bool = False,
) -> Any:
    """A network in evaluation mode: an `nn.Module` of PyTorch or an `nn.Layer` of Paddle.

    It maps images float32 [N, 3, H, W], normalised (`zoo.preprocess`), to descriptors float32 [N, D]. Its `features`
    returns the feature maps of the backbone by layer.

    Args:
        name: our name of a variant, or a published one such as `timm resnet50d`.
        framework: `torch` or `paddle`; both compute the same descriptors.
        weights: a checkpoint of this project, or a published file (.pth, .pdparams, .safetensors, .h5, .keras), which is parsed and
            never executed. None: the values that training starts from, which are the same in both frameworks.
        headless: only the backbone; its averaged features, of unit norm, are the descriptor. Published weights need it, unless they are of a
            library whose head comes with them (docs/import.md). What no tensor tells is assumed as its library usually has it, and a
            line says so; `landmark-zoo import` has options that state it, and writes a checkpoint.

    Raises:
        SpecError: there is no such variant or framework.
        CheckpointError: the weights cannot be read, or are those of another network.
        MissingToolError: the framework is not installed.

    Example:
        >>> model = create_model("resnet10_narrow", "torch")  # doctest: +SKIP
        >>> model(torch.zeros(1, 3, 64, 64)).shape  # doctest: +SKIP
        torch.Size([1, 512])
    """
    spec = get_spec(name)
    make = _room(framework, "create").create_model
    if weights is None:
        return make(spec.headless() if headless else spec)
    checkpoint = _read_weights(Path(weights), spec, headless)
    return make(checkpoint.spec, checkpoint.weights)


def load(path: str | os.PathLike, framework: Framework | None = None) -> Any:
    """The network of a checkpoint, in evaluation mode, as `create_model` returns it.

    Args:
        path: a checkpoint of this project (.safetensors), trained in either framework.
        framework: `torch` or `paddle`; by default the one that trained it, and `torch` for imported weights.

    Raises:
        CheckpointError: not a checkpoint, or its tensors do not fit its spec.
        MissingToolError: the framework is not installed.

    Example:
        >>> model = load("resnet50.safetensors")  # doctest: +SKIP
    """
    from zoo.checkpoint import load_checkpoint
    from zoo.constants import FRAMEWORKS

    checkpoint = load_checkpoint(path)
    trained_in = checkpoint.provenance.get("framework")
    framework = framework or (trained_in if trained_in in FRAMEWORKS else FRAMEWORKS[0])
    return _room(framework, "checkpoint").build(checkpoint)


def export(
    checkpoint: str | os.PathLike,
    out: str | os.PathLike,
    *,
    framework: Framework | None = None,
    size: int | None = None,
    check_sizes: Sequence[int] = (),
    half: bool = False,
    static: bool = False,
    store: Literal["constants", "variables"] | None = None,
    converter: Literal["writer", "onnx2tf"] = "writer",
    tensorflow: str = "2.2",
    verify: bool = True,
    overwrite: bool = False,
) -> "list[Row]":
    """Writes `out`/saved_model, which TensorFlow 2.2 runs, and measures each step (`export.to_savedmodel`).

    Runs child processes. In a script of your own, call it below `if __name__ == "__main__":`.

    Args:
        checkpoint: a checkpoint of this project.
        out: the folder to make; it appears only if every step is within tolerance.
        framework: whose ONNX exporter to use; by default the one that trained the checkpoint.
        size: side in pixels that served images are resized to; by default the spec's.
        check_sizes: further sides in pixels to measure at.
        half: store the weights of convolutions as float16.
        static: batches have only images of the spec's size.
        store: weights as constants or as variables; by default chosen by their size.
        converter: `writer`, the project's own, or `onnx2tf`.
        tensorflow: the version that must run it; "2.2" is the newest 2.2 that the checker knows, and the contest's.
        verify: compare the steps. It runs the network in PyTorch and in Paddle, so both must be installed.
        overwrite: replace `out` if it holds something.

    Returns:
        A row per comparison (arrow, model, max_abs, cosine, tolerance, size); none without `verify`.

    Raises:
        ParityError: a step is outside its tolerance. Nothing is kept.
        CheckpointError, ExportError, OutputError, MissingToolError: the message says what to do.

    Example:
        >>> rows = export("resnet50.safetensors", "resnet50")  # doctest: +SKIP
        >>> max(row.max_abs for row in rows) < 1e-4  # doctest: +SKIP
        True
    """
    extras.require(*EXPORT_PACKAGES, *(("onnx2tf",) if converter == "onnx2tf" else ()))
    with extras.explained():
        from export.exporters import trained_in
        from export.storage import Storage
        from export.to_savedmodel import to_savedmodel
        from zoo.checkpoint import load_checkpoint
        from zoo.constants import FRAMEWORKS

        needed = FRAMEWORKS if verify else (framework or trained_in(load_checkpoint(checkpoint)),)
        extras.require(*(package for name in needed for package in FRAMEWORK_PACKAGES[name]))
        return to_savedmodel(
            checkpoint,
            out,
            framework=framework,
            size=size,
            check_sizes=check_sizes,
            storage=Storage(static, half, store),
            converter=converter,
            tensorflow=tensorflow,
            verified=verify,
            overwrite=overwrite,
        )


def export_onnx(
    file: str | os.PathLike,
    out: str | os.PathLike,
    size: int,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    channels: Literal["rgb", "bgr"] | None = None,
    resize: Literal["antialias", "bilinear"] | None = None,
    name: str | None = None,
    output: str | None = None,
    half: bool = False,
    store: Literal["constants", "variables"] | None = None,
    converter: Literal["writer", "onnx2tf"] = "writer",
    tensorflow: str = "2.2",
    verify: bool = True,
    overwrite: bool = False,
) -> "list[Row]":
    """Writes `out`/saved_model of a network from elsewhere, which joins ensembles as any other (`export.from_onnx`).

    Runs child processes, as `export`.

    Args:
        file: an ONNX file of a convolutional network, with one input float32 [N, 3, H, W].
        out: the folder to make; it appears only if every step is within tolerance.
        size: side in pixels that images are resized to, and the only one that the SavedModel takes.
        mean: per channel in the network's order, for pixels from 0 to 1; by default ImageNet's.
        std: as `mean`.
        channels: the network's channel order; by default rgb.
        resize: the filter; by default antialias.
        name: of the network; by default the file's.
        output: the tensor that is the descriptor; by default the file's only output.
        half, store, converter, tensorflow, verify, overwrite: as in `export`.

    Returns:
        A row per comparison, as `export`.

    Raises:
        ParityError: a step is outside its tolerance. Nothing is kept.
        ExportError, CheckpointError, OutputError, MissingToolError: the message says what to do.

    Example:
        >>> rows = export_onnx("efficientnet_b0.onnx", "efficientnet_b0", 224)  # doctest: +SKIP
    """
    extras.require(*EXPORT_PACKAGES, *(("onnx2tf",) if converter == "onnx2tf" else ()))
    with extras.explained():
        from export.storage import Storage
        from export.to_savedmodel import onnx_to_savedmodel
        from zoo.specs import PreprocessSpec, StatedPreprocess

        return onnx_to_savedmodel(
            file,
            out,
            PreprocessSpec().changed(StatedPreprocess(size, channels, mean, std, resize)),
            name=name,
            output=output,
            storage=Storage(half=half, weights=store),
            converter=converter,
            tensorflow=tensorflow,
            verified=verify,
            overwrite=overwrite,
        )


def ensemble(
    members: Sequence[str | os.PathLike],
    out: str | os.PathLike,
    *,
    weights: Sequence[float] | None = None,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    norm: str = "constant",
    whitening: str | os.PathLike | None = None,
    store: Literal["constants", "variables"] | None = None,
    tensorflow: str = "2.2",
    overwrite: bool = False,
) -> "list[Row]":
    """Writes one SavedModel whose descriptor is the members' descriptors, weighted and concatenated (`export.ensemble`).

    Args:
        members: SavedModels of single models, made by `export`.
        out: the folder to make.
        weights: one positive factor per member; by default all 1.
        scales: embed an image at these factors of the resolution.
        flip: embed the mirror image as well.
        norm: how the concatenation is normalised, one of `export.writer.combine.NORMS`.
        whitening: a file of `python -m retrieval.whitening`, applied as the last layer.
        store: weights as constants or as variables; by default chosen by their size.
        tensorflow: the version that must run it, as in `export`.
        overwrite: replace `out` if it holds something.

    Returns:
        A row per comparison, as `export`.

    Raises:
        ParityError: the ensemble differs from its members by more than the tolerance. Nothing is kept.
        ExportError, OutputError, MissingToolError: the message says what to do.

    Example:
        >>> rows = ensemble(["a/saved_model", "b/saved_model"], "ab", weights=[1, 0.8])  # doctest: +SKIP
    """
    extras.require("tensorflow", "onnx")
    with extras.explained():
        from export import ensemble as room
        from export.storage import Storage
        from export.writer.combine import NORMS, Combination, Whitening
        from retrieval.whitening import read_whitening
        from zoo.manifest import file_sha256
        from zoo.strict import Scale, require

        if not scales:
            raise DataError("expected at least one scale, found none")
        for scale in scales:
            require(Scale, scale, "scales")
        if norm not in NORMS:
            raise DataError(f"there is no norm {norm!r}; expected one of {', '.join(NORMS)}")
        fitted = read_whitening(whitening) if whitening is not None else None
        applied = Whitening(fitted.mean, fitted.matrix) if fitted else None
        return room.ensemble(
            members,
            weights if weights is not None else [1.0] * len(members),
            out,
            Combination(tuple(scales), flip, norm, applied),
            whitening_sha256=file_sha256(whitening) if whitening is not None else None,
            whitened=fitted.source if fitted else None,
            variables=Storage(weights=store).variables,
            tensorflow=tensorflow,
            overwrite=overwrite,
        )


def check(
    path: str | os.PathLike, tensorflow: str = "2.2", *, contest: bool = True, side: int | None = None
) -> "Report":
    """Whether a SavedModel loads and runs in a TensorFlow version on CPUs, found out without that TensorFlow.

    Args:
        path: a SavedModel's folder, or a submission.zip.
        tensorflow: the version; "2.2" is the newest 2.2 that there is a registry of.
        contest: check the contest's signature too.
        side: height and width in pixels of the images for which shapes and arithmetic are worked out; by default 448.

    Returns:
        A report: `accepted`, `findings`, `size` in bytes, and `gflop`, the billions of operations per call of a signature.

    Raises:
        ExportError: there is no SavedModel to be read, or no registry of the version.

    Example:
        >>> check("resnet50/saved_model").accepted  # doctest: +SKIP
        True
    """
    with extras.explained():
        from export import check as room

        return room.check(Path(path), tensorflow, contest=contest, side=side or room.SIDE)


class Embedder:
    """A model that turns images into descriptors (`export.embedder.Embedder`).

    Args:
        path: the folder of a SavedModel, an ONNX file of this project, or a checkpoint. The content decides, not the name.
        framework: `torch` or `paddle`, for a checkpoint; by default the one that trained it.

    Raises:
        ExportError: `path` is none of these.
        CheckpointError: a checkpoint whose tensors do not fit its spec.
        MissingToolError: TensorFlow, ONNX Runtime or the framework is not installed.

    Example:
        >>> embed = Embedder("resnet50/saved_model")  # doctest: +SKIP
        >>> embed(["a.jpg", "b.jpg"]).shape  # doctest: +SKIP
        (2, 512)
    """

    def __init__(self, path: str | os.PathLike, framework: Framework | None = None) -> None:
        with extras.explained():
            from export import embedder as room

            self._embedder = room.Embedder(path, framework)

    def __call__(self, images: "Sequence[Image]", batch_size: int = 32) -> "np.ndarray":
        """Descriptors of images of any sizes.

        Args:
            images: paths of image files, or arrays uint8 [H, W, 3], RGB.
            batch_size: images per call of the model; it changes speed and memory, not the result.

        Returns:
            float32 [number of images, D], of unit norm unless the model's spec says otherwise.

        Raises:
            DataError: there are no images, or one is neither a path nor such an array, or a file cannot be decoded.
        """
        with extras.explained():
            return self._embedder(images, batch_size)


def search(
    index: "Vectors",
    queries: "Vectors",
    k: int = 100,
    device: str = "cpu",
    rerank: str | os.PathLike | None = None,
) -> "Ranking":
    """The k nearest index images of each query by Euclidean distance, exactly, nearest first (`retrieval.search`).

    Args:
        index, queries: a `Store` or `Embeddings`, the path of one, or an array float32 [N, D], whose row numbers become
            the ids "0", "1", ….
        k: hits per query.
        device: `cpu`, `bfloat16`, `cuda`, `cuda:N`, or `auto`, which takes the fastest here; the result is the same.
        rerank: a file of `landmark-zoo tune`, whose re-ranking follows.

    Returns:
        A ranking: `query_ids`, `hits` (ids per query) and `distances`, float32 [number of queries, min(k, N)], which are not
        Euclidean after k-reciprocal re-ranking.

    Raises:
        DataError: a side is empty, the sizes of the descriptors differ, two files are of different models, or a file cannot be
            read.
        OutputError: the temporary folder has no room for a re-ranking's descriptors.
        SpecError: there is no such device.
        MissingToolError: faiss, or for a GPU torch, is not installed.

    Example:
        >>> search(embed(photographs), embed(["query.jpg"]), k=5).hits[0]  # doctest: +SKIP
        ('17', '4', '23', '8', '0')
    """
    with extras.explained():
        from retrieval.devices import choose_device
        from retrieval.exact import search as find
        from retrieval.rerank import apply, read_reranking

        sides, chosen_device = (_rows(index), _rows(queries)), choose_device(device)
        reranking = read_reranking(rerank) if rerank is not None else None
        ranking = find(*sides, k, device=chosen_device)
        return apply(*sides, ranking, reranking, device=chosen_device) if reranking else ranking


def evaluate(
    ranking: "Ranking", truth: Mapping[str, Sequence[str]] | str | os.PathLike, k: int = 100
) -> dict[str, float]:
    """Metrics of a ranking, with the contest's definitions (`retrieval.metrics`).

    Args:
        ranking: as `search` returns it.
        truth: query id → ids of its relevant index images, or the path of a retrieval_solution CSV. Queries that it does
            not name are not scored.
        k: length of the lists that are scored.

    Returns:
        `map` (mAP@k, 0 to 1), `precision_1` (0 to 1) and `median_position`, that of the first relevant image.

    Raises:
        DataError: the truth is empty, has a query without relevant images, or cannot be read.

    Example:
        >>> evaluate(search(index, queries), {"0": ["17", "4"]})["map"]  # doctest: +SKIP
        1.0
    """
    import numpy as np

    from retrieval.metrics import find_right_hits

    right = find_right_hits(ranking, _truth(truth, k), k)
    return {
        "map": float(right.average_precisions().mean()),
        "precision_1": float(right.mean_precisions()[0]),
        "median_position": float(np.median(right.positions())),
    }


def compare(
    first: "Ranking", second: "Ranking", truth: Mapping[str, Sequence[str]] | str | os.PathLike, k: int = 100
) -> "Comparison":
    """Whether one ranking is better than another of the same queries (`retrieval.comparison`).

    Args:
        first, second: as `search` returns them, from any two models.
        truth, k: as in `evaluate`.

    Returns:
        The `difference` of mAP@k, first minus second, its 95 % `interval` by a bootstrap over the queries, the `p` of a paired
        randomisation test, and `shown`, whether p is below .05. As text it is one sentence.

    Raises:
        DataError: as `evaluate`.

    Example:
        >>> print(compare(ours, theirs, "DATA/retrieval_solution_v2.1.csv"))  # doctest: +SKIP
        +0.0235 (95 % interval -0.0130 to +0.0600), p = .22: not shown on 72 queries
    """
    from retrieval.comparison import compare as compared
    from retrieval.metrics import average_precisions

    read = _truth(truth, k)
    return compared(average_precisions(first, read, k), average_precisions(second, read, k))


def _truth(truth: Mapping[str, Sequence[str]] | str | os.PathLike, k: int) -> Mapping[str, Sequence[str]]:
    """The ground truth, read if it is a path; and a check of k."""
    from retrieval.solution import read_retrieval_solution
    from zoo.strict import Count, require

    require(Count, k, "k")
    return read_retrieval_solution(truth).everything if isinstance(truth, str | os.PathLike) else truth


def _room(framework: str, module: str) -> Any:
    """A module of `torch_models` or `paddle_models`."""
    import importlib

    from zoo.constants import FRAMEWORKS

    if framework not in FRAMEWORKS:
        raise SpecError(f"there is no framework {framework!r}; expected {' or '.join(FRAMEWORKS)}")
    with extras.explained():
        return importlib.import_module(f"{framework}_models.{module}")


def _read_weights(path: Path, spec: "ModelSpec", headless: bool) -> Any:
    """Reads a checkpoint, or imports a published file as one."""
    from zoo.checkpoint import FORMAT, load_checkpoint
    from zoo.import_weights import import_weights
    from zoo.published.kinds import SAFETENSORS, kind_of
    from zoo.tensors import read_header
    from zoo.weights import parameter_shapes

    if not path.is_file() or kind_of(path) != SAFETENSORS or read_header(path).get("format") != FORMAT:
        return import_weights(path, spec, headless=headless)
    checkpoint = load_checkpoint(path)
    if checkpoint.spec.backbone != spec.backbone:
        raise CheckpointError(f"{path} is a checkpoint of {checkpoint.spec.name}; expected one of {spec.name}")
    if not headless:
        return checkpoint
    backbone = checkpoint.spec.headless()
    weights = {name: checkpoint.weights[name] for name in parameter_shapes(backbone)}
    return replace(checkpoint, spec=backbone, weights=weights, classes=0)


def _rows(given: "Vectors") -> "Rows":
    """Descriptors as they are, from a file or a store, or from an array's rows."""
    import numpy as np

    from retrieval.embeddings import Embeddings
    from retrieval.store import open_rows

    if isinstance(given, str | os.PathLike):
        return open_rows(given)
    if isinstance(given, np.ndarray):
        return Embeddings(tuple(map(str, range(len(given)))), given, {})
    return given
