"""Small networks from ONNX to SavedModels: by our own export, and by unmodified onnx2tf.

    python -m tests.export.converted_models FOLDER NAME...

FOLDER contains <NAME>.onnx, a framework's own export; <NAME>_ours, <NAME>_dynamic and <NAME>_static are added.
"""

import contextlib
import os
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import onnx
import onnx2tf

from export.normal_form.rewrites import normal_form
from export.writer.convert import save_normal_form


def main(folder: Path, names: list[str]) -> None:
    """Converts each file three ways."""
    for name in names:
        raw, normal = folder / f"{name}.onnx", folder / f"{name}_normal.onnx"
        model = onnx.load(raw)
        onnx.save(normal_form(model), normal)
        save_normal_form(normal, folder / f"{name}_ours")
        for kind, sizes in (("dynamic", None), ("static", [f"{model.graph.input[0].name}:1,3,64,64"])):
            with contextlib.redirect_stdout(sys.stderr):
                onnx2tf.convert(
                    input_onnx_file_path=str(raw),
                    output_folder_path=str(folder / f"{name}_{kind}"),
                    overwrite_input_shape=sizes,
                    output_signaturedefs=True,
                    non_verbose=True,
                )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
