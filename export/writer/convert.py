"""A normal form → a SavedModel with the contest's signature, which TensorFlow 2.2 loads and runs.

Example:
    python -m export.writer --onnx resnest/normal_form.onnx --out saved_model
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnx

from export.writer.combine import PLAIN
from zoo.errors import ExportError
from zoo.files import new_folder
from zoo.specs import ModelSpec

STATIC, HALF = "--static", "--half"


def save_normal_form(
    path: Path, folder: Path, *, static: bool = False, half: bool = False, variables: bool | None = None
) -> None:
    """Converts one normal form to a SavedModel of its own; its metadata says how images are prepared.

    Args:
        path: the normal form.
        folder: the SavedModel to make.
        static: the batch signature takes images of the spec's size alone.
        half: round the convolutions' weights to float16 and store these.
        variables: store weights as variables or as constants; by default whichever suits their size.

    Raises:
        ExportError: the file has no metadata of ours, or an operator that a normal form does not have.
        OutputError: `folder` holds something.
    """
    from export.writer.member import in_half_precision, network_from_onnx
    from export.writer.save import write_saved_model

    model = onnx.load(path)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    if "spec" not in properties:
        raise ExportError(f"{path} has no spec in its metadata; `python export/to_savedmodel.py` makes one that has")
    spec = ModelSpec.from_dict(json.loads(properties["spec"]))
    network = network_from_onnx(rounded_to_half(model) if half else model, spec, static=static)
    with new_folder(folder) as made:
        write_saved_model(made, [in_half_precision(network) if half else network], PLAIN, variables=variables)


def rounded_to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose convolutions' weights are what float16 would keep of them: 11 bits.

    Raises:
        ExportError: a weight is beyond float16's largest number, 65504.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    kernels = {node.input[1] for node in copy.graph.node if node.op_type == "Conv"}
    for tensor in copy.graph.initializer:
        if tensor.name in kernels:
            with np.errstate(over="ignore"):
                half = onnx.numpy_helper.to_array(tensor).astype(np.float16)
            if not np.isfinite(half).all():
                raise ExportError(f"{tensor.name!r} has weights beyond float16; store it as float32")
            tensor.CopyFrom(onnx.numpy_helper.from_array(half.astype(np.float32), tensor.name))
    return copy


def add_storage_options(parser: argparse.ArgumentParser) -> None:
    """The options that say how a SavedModel stores its network."""
    parser.add_argument(STATIC, action="store_true", help="batches have images of the spec's size alone")
    parser.add_argument(HALF, action="store_true", help="store the convolutions' weights as float16: half the file")
    add_store_option(parser)


def add_store_option(parser: argparse.ArgumentParser) -> None:
    """The option that says where a SavedModel has its weights."""
    parser.add_argument(
        "--store",
        choices=("constants", "variables"),
        help="weights as constants are faster in today's TensorFlow, as variables they take less memory; default: by size",
    )


def as_variables(arguments: argparse.Namespace) -> bool | None:
    """What `write_saved_model` is told of `--store`."""
    return None if arguments.store is None else arguments.store == "variables"


def storage_options(arguments: argparse.Namespace) -> list[str]:
    """The options of `add_storage_options` as they were given, to be passed on."""
    given = [option for option in (STATIC, HALF) if getattr(arguments, option.strip("-"))]
    return [*given, "--store", arguments.store] if arguments.store else given


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--onnx", required=True, type=Path, help="a normal form; its metadata has the spec")
    parser.add_argument("--out", required=True, type=Path, help="folder to make")
    add_storage_options(parser)
    return parser.parse_args()


def main() -> None:
    """Command line: nothing is measured here; `export.to_savedmodel` does it."""
    arguments = parse_arguments()
    variables = as_variables(arguments)
    save_normal_form(arguments.onnx, arguments.out, static=arguments.static, half=arguments.half, variables=variables)
    print(arguments.out)
