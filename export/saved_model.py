"""Normal-form networks → a SavedModel with the contest's signature, which TensorFlow 2.2 loads and runs.

Weights are constants in the graph: today's writer gives variables operators and attributes that TensorFlow 2.2 does not
know. Each network is a function of its own that both signatures call, so its weights are stored once.

Example:
    python -m export.saved_model --onnx resnest/normal_form.onnx --out saved_model
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from export.quiet import quiet_stderr
from zoo.command import run
from zoo.errors import ExportError
from zoo.files import new_folder
from zoo.signature import BATCH_SIGNATURE, CONTEST_INPUT, CONTEST_SIGNATURE, DESCRIPTOR, batch_input, read_batch_input
from zoo.specs import ModelSpec, PreprocessSpec


@dataclass(frozen=True)
class Network:
    """One member as TensorFlow sees it.

    Attributes:
        function: from resized pixels float32 [N, H, W, 3], RGB, 0 to 255, to unit-norm descriptors float32 [N, D];
            calls one concrete function, whose weights are constants.
        input: name of its images in the batch signature: the square that they are resized to, and how.
        weight: what its descriptor is multiplied by before it is concatenated.
    """

    function: Callable[[Any], Any]
    input: str
    weight: float = 1.0


def network_from_onnx(model: onnx.ModelProto, spec: PreprocessSpec) -> Network:
    """Converts a normal form with onnx2tf and puts the normalisation in front of it.

    Raises:
        ExportError: onnx2tf failed, or left an operator that does not belong into the network.
    """
    frozen = _frozen(model, spec)
    transposed = [node.name for node in frozen.graph.as_graph_def().node if node.op in ("Transpose", "Reshape")]
    if transposed:
        raise ExportError(
            f"onnx2tf put {transposed[0]!r} into the network; the normal form should leave no need for it"
        )
    return Network(lambda pixels: frozen(pixels)[0], batch_input(spec.size, spec.resize))


def save_taps(
    folder: Path, model: onnx.ModelProto, spec: PreprocessSpec, signature: str, pixels: str
) -> dict[str, str]:
    """Writes a SavedModel of a normal form with many outputs, for looking inside: maps [N, H, W, C] of batches of pixels.

    Returns:
        The signature's outputs, each with the name of the ONNX tensor that it is.
    """
    with quiet_stderr():
        import tensorflow as tf

    frozen = _frozen(model, spec)
    names = {f"tap{number}": output.name for number, output in enumerate(model.graph.output)}

    class Taps(tf.Module):
        """The one signature."""

        @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32, name=pixels)])
        def __call__(self, images: Any) -> dict:
            return dict(zip(names, frozen(images), strict=True))

    taps = Taps()
    tf.saved_model.save(taps, str(folder), signatures={signature: taps.__call__})
    return names


def _frozen(model: onnx.ModelProto, spec: PreprocessSpec) -> Any:
    """A concrete function of pixels float32 [N, H, W, 3] whose weights are constants; its outputs are the model's, in order."""
    with quiet_stderr():
        import onnx2tf
        import tensorflow as tf
        from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        try:
            network = onnx2tf.convert(
                onnx_graph=model,
                output_folder_path=folder,
                not_use_onnxsim=True,  # it would undo the normal form's explicit padding
                disable_model_save=True,
                non_verbose=True,
            )
        except (Exception, SystemExit) as error:  # onnx2tf ends the process where it cannot go on
            raise ExportError(f"onnx2tf could not convert the normal form: {error!r}") from error

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32, name="pixels")])
    def embed(pixels: Any) -> Any:
        if spec.channels == "bgr":
            pixels = tf.reverse(pixels, axis=[-1])
        images = (pixels / tf.constant(255.0) - tf.constant(spec.mean)) / tf.constant(spec.std)
        return network(images)

    with quiet_stderr():
        return convert_variables_to_constants_v2(embed.get_concrete_function())


def network_from_saved_model(folder: str | os.PathLike, weight: float = 1.0) -> Network:
    """A member that this module wrote before, to be put into an ensemble.

    Raises:
        ExportError: not a SavedModel, or not one of ours with a single resolution.
    """
    with quiet_stderr():
        import tensorflow as tf

    try:
        loaded = tf.saved_model.load(str(folder))
    except (OSError, ValueError) as error:
        raise ExportError(
            f"{folder} is not a SavedModel: {error}. Make one with `python export/to_savedmodel.py`."
        ) from error
    signature = loaded.signatures.get(BATCH_SIGNATURE)
    inputs = list(signature.structured_input_signature[1]) if signature else []
    if len(inputs) != 1:
        raise ExportError(
            f"{folder}: expected a member with the signature {BATCH_SIGNATURE!r} and one resolution, found inputs {inputs}. "
            "Members are made with `python export/to_savedmodel.py`."
        )
    name = inputs[0]

    def embed(pixels: Any, owner: Any = loaded) -> Any:  # a signature's function dies with the object that it came from
        return signature(**{name: pixels})[DESCRIPTOR]

    return Network(embed, name, weight)


def write_saved_model(folder: Path, networks: Sequence[Network]) -> None:
    """Writes one SavedModel of one or more members; `folder` must be empty or new.

    The descriptor is the members' unit-norm descriptors times their weights, concatenated and divided by the weights'
    Euclidean norm: of unit norm again, and ranked as the weighted concatenation would be.
    """
    with quiet_stderr():
        import tensorflow as tf

    norm = sum(network.weight**2 for network in networks) ** 0.5
    inputs = sorted({network.input for network in networks})

    class Served(tf.Module):
        """The two signatures over the members."""

        @tf.function(input_signature=[tf.TensorSpec([None, None, 3], tf.uint8, name=CONTEST_INPUT)])
        def embed_image(self, image: Any) -> dict:
            batch = tf.cast(image[None], tf.float32)
            resized = {}
            for name in inputs:
                size, resize = read_batch_input(name)
                resized[name] = tf.image.resize(batch, [size, size], "bilinear", antialias=resize == "antialias")
            return {DESCRIPTOR: self.descriptors(resized)[0]}

        @tf.function
        def embed_resized(self, **images: Any) -> dict:
            return {DESCRIPTOR: self.descriptors(images)}

        def descriptors(self, resized: dict) -> Any:
            parts = [network.function(resized[network.input]) for network in networks]
            parts = [
                p if n.weight == norm else p * tf.constant(n.weight / norm)
                for p, n in zip(parts, networks, strict=True)
            ]
            return parts[0] if len(parts) == 1 else tf.concat(parts, axis=1)

    served = Served()
    batches = {name: tf.TensorSpec([None, None, None, 3], tf.float32, name=name) for name in inputs}
    signatures = {
        CONTEST_SIGNATURE: served.embed_image,
        BATCH_SIGNATURE: served.embed_resized.get_concrete_function(**batches),
    }
    tf.saved_model.save(served, str(folder), signatures=signatures)


def save_normal_form(path: Path, folder: Path) -> None:
    """Converts one normal form to a SavedModel of its own; its metadata says how images are prepared.

    Raises:
        ExportError: the file has no metadata of ours, or onnx2tf failed.
        OutputError: `folder` holds something.
    """
    model = onnx.load(path)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    if "spec" not in properties:
        raise ExportError(f"{path} has no spec in its metadata; `python export/to_savedmodel.py` makes one that has")
    spec = ModelSpec.from_dict(json.loads(properties["spec"]))
    with new_folder(folder) as made:
        write_saved_model(made, [network_from_onnx(model, spec.preprocess)])


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--onnx", required=True, type=Path, help="a normal form; its metadata has the spec")
    parser.add_argument("--out", required=True, type=Path, help="folder to make")
    return parser.parse_args()


def main() -> None:
    """Command line: nothing is measured here; `export.to_savedmodel` does it."""
    arguments = parse_arguments()
    save_normal_form(arguments.onnx, arguments.out)
    print(arguments.out)


if __name__ == "__main__":
    run(main)
