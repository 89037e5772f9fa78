"""Reads the weights that Keras saved, with the layout and the names of PyTorch's tensors. No layer is made, and nothing is executed.

Keras 2 and `model.save("….h5")` write a group for each layer, with arrays named `conv1_conv/kernel:0`; Keras 3 numbers the variables
of a layer, `layers/conv2d/vars/0`, and keeps the layer's name beside them. A `.keras` file is a zip of such a file and the model's
configuration.
"""

import io
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoo.constants import BATCH_NORM_EPSILON
from zoo.errors import CheckpointError
from zoo.limits import TENSORS, TEXT_BYTES, require_at_most
from zoo.published.hdf5 import Hdf5
from zoo.published.pickled_values import Opaque
from zoo.text import parse_json

WEIGHTS, CONFIGURATION = "model.weights.h5", "config.json"
"""Entries of a `.keras` file."""
APPLICATIONS_EPSILON = 1.001e-5
"""Of BatchNorm in `keras.applications`' ResNets, if a file has no configuration that states it."""
_KINDS = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_BATCH_NORM = ("weight", "bias", "running_mean", "running_var")
"""The order in which Keras 3 numbers a BatchNorm's variables."""
_Tensors = dict[str, np.ndarray | Opaque]


class KerasFile(NamedTuple):
    """What Keras saved.

    Attributes:
        tensors: by name, such as "conv1_conv.weight", or "resnet50.conv1_conv.weight" in a network inside another. Convolutions are
            [out, in, height, width], linear layers [out, in]. The variances of BatchNorm are those that give with
            `zoo.constants.BATCH_NORM_EPSILON` what Keras computes with its own epsilon.
        strides: {a layer's name: its strides as the model's configuration states them}, unchecked; empty if there is none.
    """

    tensors: _Tensors
    strides: dict[str, Any]


def read_h5(path: Path) -> KerasFile:
    """The weights in an HDF5 file, `.h5` or `.weights.h5`.

    Raises:
        CheckpointError: it is damaged, or Keras did not write it.
    """
    with open(path, "rb") as file:
        hdf5 = Hdf5(file, path.stat().st_size)
        text = hdf5.text("", "model_config")
        if not text:
            return _read(hdf5, {})
        require_at_most(TEXT_BYTES, len(text), "characters", "its model_config", CheckpointError)
        return _read(hdf5, _layers(parse_json(text, "its model_config", error=CheckpointError)))


def read_zip(path: Path) -> KerasFile:
    """The weights in a `.keras` file.

    Raises:
        CheckpointError, zipfile.BadZipFile: it is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        for name in (WEIGHTS, CONFIGURATION):
            if archive.namelist().count(name) != 1:
                raise CheckpointError(f"it has not one {name}, as Keras writes it; save it again with Keras")
        weights, configuration = archive.getinfo(WEIGHTS), archive.getinfo(CONFIGURATION)
        if weights.compress_type != zipfile.ZIP_STORED or weights.file_size != weights.compress_size:
            raise CheckpointError(f"its {WEIGHTS} is compressed; unpack it, and import that file")
        require_at_most(TEXT_BYTES, configuration.file_size, "bytes", f"its {CONFIGURATION}", CheckpointError)
        config = parse_json(archive.read(configuration), f"its {CONFIGURATION}", error=CheckpointError)
        raw = archive.read(weights)
    return _read(Hdf5(io.BytesIO(raw), len(raw)), _layers(config))


def _read(hdf5: Hdf5, layers: Mapping[str, dict]) -> KerasFile:
    tensors: _Tensors = {}
    require_at_most(TENSORS, len(hdf5.datasets), "arrays", "it has", CheckpointError)
    for path, name in (*_named(hdf5), *_numbered(hdf5)):
        if name in tensors:
            raise CheckpointError(f"it has two arrays that are {name!r}")
        value = hdf5.values(path) if hdf5.datasets[path].dtype else Opaque("a tensor of no type of numbers")
        if isinstance(value, np.ndarray) and name.endswith(".weight") and value.ndim in (2, 4):
            value = value.T if value.ndim == 2 else value.transpose(3, 2, 0, 1)
        if isinstance(value, np.ndarray) and name.endswith(".running_var"):
            value = _with_our_epsilon(value, layers.get(name.split(".")[-2], {}))
        tensors[name] = value
    return KerasFile(tensors, {name: config["strides"] for name, config in layers.items() if "strides" in config})


def _with_our_epsilon(variance: np.ndarray, config: dict) -> np.ndarray:
    """Adds the difference of the two epsilons, which changes only the variance's rounding: float32 [C]."""
    epsilon = config.get("epsilon", APPLICATIONS_EPSILON)
    if not isinstance(epsilon, float) or not 0 <= epsilon <= 1:
        raise CheckpointError(f"its configuration has a BatchNorm with epsilon {str(epsilon)[:40]}")
    return (variance.astype(np.float64) + (epsilon - BATCH_NORM_EPSILON)).astype(np.float32)


def _named(hdf5: Hdf5) -> Iterator[tuple[str, str]]:
    """(path, name) of the arrays that are named after their variable: Keras 2's files, and Keras 3's in that form."""
    inside = "model_weights/" if any(path.startswith("model_weights/") for path in hdf5.datasets) else ""
    for path in hdf5.datasets:
        parts = path.removeprefix(inside).split("/")
        if path.startswith(inside) and parts[0] not in ("optimizer_weights", "optimizer") and "vars" not in parts:
            *modules, variable = parts
            variable = re.sub(r":\d+$", "", variable)
            different = [part for part, before in zip(modules, ["", *modules], strict=False) if part != before]
            yield path, ".".join([*different, _KINDS.get(variable, variable)])


def _numbered(hdf5: Hdf5) -> Iterator[tuple[str, str]]:
    """(path, name) of the arrays that Keras 3 numbered."""
    found: dict[str, list[int]] = {}
    for path in hdf5.datasets:
        if (match := re.fullmatch(r"(?!optimizer/)(.+)/vars/(\d{1,4})", path)) is not None:
            found.setdefault(match[1], []).append(int(match[2]))
    for layer, numbers in found.items():
        ranks = [len(hdf5.datasets[f"{layer}/vars/{number}"].shape) for number in sorted(numbers)]
        kinds = _BATCH_NORM if ranks == [1] * 4 else ("weight", "bias") if ranks and ranks[0] > 1 else ()
        module = _module(hdf5, layer)
        for index, number in enumerate(sorted(numbers)):
            kind = kinds[index] if index < len(kinds) else str(number)
            yield f"{layer}/vars/{number}", f"{module}.{kind}"


def _module(hdf5: Hdf5, layer: str) -> str:
    """The names of a layer and of the networks around it: "layers/functional/layers/conv2d" → "resnet50.conv1_conv"."""
    parts = layer.split("/")
    places = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    names = [name for place in places if (name := hdf5.text(f"{place}/vars", "name"))]
    if not names or hdf5.text(f"{layer}/vars", "name") is None:
        raise CheckpointError(
            f"it does not say which layer its {layer!r} is, as Keras before version 3 wrote it. Load it there and save its weights "
            "with their names, `model.save_weights('weights.h5')`"
        )
    return ".".join(names)


def _layers(config: Any) -> dict[str, dict]:
    """The configuration of every layer by its name, those of networks inside the network included."""
    found, waiting = {}, [config]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting += item
        elif isinstance(item, dict):
            inner = item.get("config")
            if isinstance(inner, dict) and "class_name" in item and isinstance(name := inner.get("name"), str):
                found[name] = inner
            waiting += item.values()
    return found
