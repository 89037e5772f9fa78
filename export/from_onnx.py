"""Somebody else's ONNX file → model.onnx: the project's input, output and metadata around the same network.

Example:
    python -m export.from_onnx --onnx efficientnet_b0.onnx --size 224 --out model.onnx

The input becomes `images` float32 [N, 3, size, size], and the output `descriptor` float32 [N, D], scaled to unit norm. The file
that was given and the one that is written are compared in ONNX Runtime. `export/to_savedmodel.py --onnx` does the rest.
"""

import argparse
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export import onnx_runtime
from export.exporters import OPSET
from export.foreign_graph import only_input, require_descriptor, tidy, use_names
from export.onnx_file import foreign_files, read_foreign_onnx
from export.onnx_metadata import IMPORTED, INPUT, OUTPUT, set_origin
from export.parity.probes import picture
from zoo.arguments import add_preprocess_options, given_path, ranged, stated_preprocess
from zoo.checkpoint import check_preprocess
from zoo.command import log, run
from zoo.constants import NORM_EPSILON
from zoo.errors import ExportError
from zoo.files import new_file, output_file, require_elsewhere
from zoo.manifest import file_sha256, versions
from zoo.preprocess import normalise
from zoo.specs import ImportedSpec, PreprocessSpec
from zoo.strict import Pixels
from zoo.tolerances import TOLERANCES, compare

_RAW = f"{OUTPUT}/raw"
"""The network's own output."""


def from_onnx(path: Path, preprocess: PreprocessSpec, name: str, output: str | None = None) -> onnx.ModelProto:
    """Reads somebody's ONNX file and gives it the input, output and metadata of this project's.

    Args:
        path: an ONNX file with one input that images go into, float32 [N, 3, H, W]. A batch of 1 becomes any batch, unless
            other parts of the graph say 1 as well: then it stays, and the normal form opens it.
        preprocess: how its images are prepared; H and W are fixed to its size.
        name: of the network.
        output: the tensor that is its descriptor; by default the file's only output.

    Raises:
        CheckpointError: mean or std are not for pixels from 0 to 1.
        ExportError: the file cannot be read; it has another input; its descriptor is no vector per image, is not finite or differs
            from run to run; or it cannot take images of this size.
        SpecError: the name has other characters than `zoo.specs.ImportedSpec` allows.
    """
    check_preprocess(preprocess)
    given = read_foreign_onnx(path, preprocess.size, output)
    [descriptor] = (value.name for value in given.graph.output)
    fingerprint = _content(path, given)
    try:
        own_input = only_input(given, preprocess.size)
        random, size = np.random.default_rng(0), preprocess.size
        images = normalise(np.stack([picture(random, size, size) for _ in range(2)]), preprocess)
        *expected, again = _one_by_one(given, images[[0, 1, 0]])
        spec = ImportedSpec(name, preprocess, require_descriptor(descriptor, expected[0]))
        if not _agree(_rows(expected[:1]), _rows([again])):
            raise ExportError(_differing(given))
        made = _with_recent_operators(given)
        use_names(made, {own_input: INPUT, descriptor: _RAW}, reserved=(INPUT, OUTPUT))
        _frame(made, spec, flat=expected[0].ndim == 2)
        tidy(made)
        rows = _rows(expected)
        if not _takes_batches(made, images, rows):
            made.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
            if not _agree(rows, _rows(_one_by_one(made, images))):
                raise ExportError(
                    f"in opset {OPSET} it computes something else. Export it with that opset or a later one."
                )
        fingerprint.update(json.dumps([spec.to_dict(), descriptor], sort_keys=True).encode())
        set_origin(made, spec, fingerprint.hexdigest(), IMPORTED, _producer(given) | versions("landmark-zoo", "onnx"))
        onnx.checker.check_model(made)
    except (onnx.checker.ValidationError, ExportError, UnicodeDecodeError) as error:  # a name may be any bytes
        raise ExportError(f"{path}: {error}") from error
    return made


def _one_by_one(model: onnx.ModelProto, images: np.ndarray) -> list[np.ndarray]:
    """A model's first output for each image of float32 [N, 3, S, S]."""
    running = onnx_runtime.session(model)
    return [onnx_runtime.run(running, image)[0] for image in np.split(images, len(images))]


def _rows(descriptors: list[np.ndarray]) -> np.ndarray:
    """Descriptors [1, D] or [1, D, 1, 1] as [N, D]."""
    return np.concatenate(descriptors).reshape(len(descriptors), -1)


_RANDOM = {"Bernoulli", "Dropout", "Multinomial"}
"""Operators that draw numbers, beside Random…"""


def _differing(model: onnx.ModelProto) -> str:
    """What to say of a network that computes two descriptors of one picture."""
    drawing = [node for node in model.graph.node if node.op_type in _RANDOM or node.op_type.startswith("Random")]
    whose = "".join(f", by the node {node.name or node.output[0]!r} ({node.op_type})" for node in drawing[:1])
    return f"its descriptor of one picture differs from run to run{whose}. Export the network in evaluation mode."


def _with_recent_operators(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in `OPSET`, if it is in an older one: later steps know the forms of operators since then."""
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), OPSET)
    if opset >= OPSET:
        return model
    try:
        return onnx.version_converter.convert_version(model, OPSET)
    except (RuntimeError, ValueError, onnx.version_converter.ConvertError) as error:
        raise ExportError(
            f"its opset {opset} cannot be converted to {OPSET}: {' '.join(str(error).split())[:300]}. Export it with opset {OPSET} "
            "or a later one."
        ) from error


def _frame(model: onnx.ModelProto, spec: ImportedSpec, *, flat: bool) -> None:
    """Fixes the input's shape and appends what makes a descriptor: flattening, and unit norm."""
    graph, size = model.graph, spec.preprocess.size
    vector = _RAW
    if not flat:
        graph.node.append(helper.make_node("Flatten", [vector], [f"{OUTPUT}/flat"], f"{OUTPUT}/flat", axis=1))
        vector = f"{OUTPUT}/flat"
    axes, lowest = f"{OUTPUT}/axes", f"{OUTPUT}/lowest"
    graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), axes))
    graph.initializer.append(numpy_helper.from_array(np.array(NORM_EPSILON**2, np.float32), lowest))
    chain = (
        ("Mul", [vector, vector], "squares"),
        ("ReduceSum", [f"{OUTPUT}/squares", axes], "sum"),
        ("Clip", [f"{OUTPUT}/sum", lowest], "clipped"),
        ("Sqrt", [f"{OUTPUT}/clipped"], "norm"),
    )
    for op, inputs, part in chain:
        graph.node.append(helper.make_node(op, inputs, [f"{OUTPUT}/{part}"], f"{OUTPUT}/{part}"))
    graph.node.append(helper.make_node("Div", [vector, f"{OUTPUT}/norm"], [OUTPUT], OUTPUT))
    del graph.input[:], graph.output[:]
    graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["N", 3, size, size]))
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["N", spec.embedding_size]))


def _producer(model: onnx.ModelProto) -> dict[str, str]:
    """Who wrote the file, if it says so in a few plain characters, as {name: version}."""
    name, version = model.producer_name, model.producer_version or "unknown"
    plain = all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,39}", text) for text in (name, version))
    return {name: version} if plain else {}


def _content(path: Path, model: onnx.ModelProto) -> "hashlib._Hash":
    """sha256 of a file and of the weights that it may keep in other files."""
    found = hashlib.sha256(file_sha256(path).encode())
    for tensor in model.graph.initializer:
        found.update(tensor.raw_data)
    return found


def _takes_batches(model: onnx.ModelProto, images: np.ndarray, expected: np.ndarray) -> bool:
    """Whether a model computes the same descriptors for a batch; one that was exported for a single image may have its 1 anywhere."""
    try:
        found = onnx_runtime.run(onnx_runtime.session(model), images)[0]
    except ExportError:
        return False
    return _agree(expected, found)


def _agree(expected: np.ndarray, found: np.ndarray) -> bool:
    """Whether descriptors [N, D] are equal within the tolerance, once both have unit norm."""
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (expected, found)]
    return compare(*unit).within(TOLERANCES["onnx → normal form"])


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--onnx", required=True, type=given_path, help="an ONNX file of any convolutional network")
    parser.add_argument("--size", required=True, type=ranged(Pixels), help="side in pixels of its images")
    add_preprocess_options(parser)
    parser.add_argument("--name", default="network", help="of the network; default: %(default)s")
    parser.add_argument(
        "--output", metavar="TENSOR", help="the tensor that is its descriptor; default: its only output"
    )
    parser.add_argument("--out", required=True, type=given_path, help="the ONNX file to write")
    return parser.parse_args()


def main() -> None:
    """Command line."""
    arguments = parse_arguments()
    preprocess = PreprocessSpec().changed(stated_preprocess(arguments))
    with output_file(arguments.out, [arguments.onnx]):
        require_elsewhere(arguments.out, foreign_files(arguments.onnx))
        model = from_onnx(arguments.onnx, preprocess, arguments.name, arguments.output)
        with new_file(arguments.out) as partial:
            onnx.save(model, partial)
    log(f"{arguments.name} from {arguments.onnx}: {len(model.graph.node)} nodes")
    print(arguments.out)


if __name__ == "__main__":
    run(main)
