"""Normal forms → descriptors, converted by unmodified onnx2tf instead of our own writer.

Example:
    python -m parity_tests.onnx2tf_worker pixels.npz a/normal_form.onnx a/descriptors.npz b/normal_form.onnx b/descriptors.npz

pixels.npz holds batches float32 [N, H, W, 3], 0 to 255; a file of their descriptors has the same names.
"""

import contextlib
import json
import os
import sys
import tempfile

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import onnx
import onnx2tf

from zoo.preprocess import normalise
from zoo.specs import ModelSpec


def main(pixels: str, *files: str) -> None:
    """Converts each file and runs the result."""
    with np.load(pixels) as batches:
        batches = dict(batches)
    for source, out in zip(files[::2], files[1::2], strict=True):
        model = onnx.load(source)
        properties = {entry.key: entry.value for entry in model.metadata_props}
        spec = ModelSpec.from_dict(json.loads(properties["spec"])).preprocess
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
            network = onnx2tf.convert(
                onnx_graph=model,
                output_folder_path=folder,
                not_use_onnxsim=True,  # otherwise it would undo the normal form's explicit padding
                disable_model_save=True,
                non_verbose=True,
            )
        # Its networks take channels-last maps.
        found = {name: network(normalise(batch, spec).transpose(0, 2, 3, 1)) for name, batch in batches.items()}
        np.savez(out, **{name: np.asarray(value) for name, value in found.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
