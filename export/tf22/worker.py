"""Runs SavedModels in the TensorFlow of the Python that runs it; `export/tf22/runner.py` starts it with TensorFlow 2.2's.

Python 3.8 syntax. The project is not installed beside TensorFlow 2.2: of its files, only `zoo/contest.py` is used.

    python export/tf22/worker.py JOB.json
    python export/tf22/worker.py --score submission.zip --test DIR --index DIR --out predictions.json
"""

import argparse
import contextlib
import ctypes
import json
import os
import runpy
import signal
import sys
import tempfile
import time
import zipfile
import zlib
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # Read while TensorFlow is imported, so it is set before.

import numpy as np
import PIL.Image
import tensorflow as tf

tf.get_logger().setLevel("ERROR")  # 2.2 warns about objects without variables, and our weights are constants

CONTEST_SIGNATURE = "serving_default"
DESCRIPTOR = "global_descriptor"
RANKED = 100
"""Neighbours kept per query: the contest's metric is mAP@100."""

IMAGE_FORMATS = runpy.run_path(str(Path(__file__).resolve().parents[2] / "zoo" / "contest.py"))["IMAGE_FORMATS"]
"""Read by path: with the project's folder on the import path, packages of another Python could be found there."""

REFUSED = 3
"""Exit status for a submission that the contest would refuse, as opposed to a run that failed."""


class Refused(Exception):
    """The contest would not accept this submission."""


def load_signature(folder, name, loaded):
    """The signature `name` of the SavedModel in `folder`; `loaded` caches SavedModels, because loading takes seconds."""
    if folder not in loaded:
        loaded[folder] = tf.saved_model.load(folder)
    signatures = loaded[folder].signatures
    if name not in signatures:
        raise Refused("{}: expected signature {!r}, found {}".format(folder, name, sorted(signatures) or "none"))
    return loaded[folder], signatures[name]


def run_job(path):
    """Runs every call of a job file and writes its report.

    The job is {"calls": [{"saved_model", "signature", "inputs", "outputs"}], "report": path}. If the signature is
    the contest's, each array of the npz file `inputs` (uint8 [H, W, 3]) is one positional call, as in the scorer,
    and the descriptor is stored under the array's own name. For every other signature the arrays are named
    "<call>/<input name>" and passed by keyword; each output is stored as "<call>/<output name>".
    """
    with open(path, encoding="utf-8") as file:
        job = json.load(file)
    loaded, seconds = {}, []
    for call in job["calls"]:
        # Keep a reference to the model: a signature's function is deleted with its object.
        _model, function = load_signature(call["saved_model"], call["signature"], loaded)
        with np.load(call["inputs"], allow_pickle=False) as arrays:
            inputs = {key: arrays[key] for key in arrays.files}
        outputs, took = {}, {}
        run = _call_contest if call["signature"] == CONTEST_SIGNATURE else _call_by_name
        for name, arguments in _grouped(inputs, call["signature"]).items():
            start = time.perf_counter()
            outputs.update(run(function, name, arguments))
            took[name] = time.perf_counter() - start
        with new_file(call["outputs"]) as partial, open(partial, "wb") as file:
            np.savez(file, **outputs)
        seconds.append(took)
    with new_file(job["report"]) as partial, open(partial, "w", encoding="utf-8") as file:
        json.dump({"tensorflow": tf.__version__, "seconds": seconds}, file)


def _grouped(inputs, signature):
    """{call: {input name: array}}; the contest's signature has one unnamed input per call."""
    groups = {}
    for key, array in inputs.items():
        call, slash, name = key.partition("/")
        if (signature == CONTEST_SIGNATURE) == bool(slash):
            expected = "plain names" if slash else "<call>/<input name>"
            raise SystemExit(f"npz key {key!r}: signature {signature!r} expects {expected}")
        groups.setdefault(call, {})[name] = array
    return groups


def _call_contest(function, name, arguments):
    return {name: function(tf.convert_to_tensor(arguments[""]))[DESCRIPTOR].numpy()}


def _call_by_name(function, name, arguments):
    results = function(**{key: tf.convert_to_tensor(array) for key, array in arguments.items()})
    return {f"{name}/{key}": value.numpy() for key, value in results.items()}


def score(submission, test, index):
    """Scores submission.zip as the contest's scorer does.

    Every image is decoded by Pillow and passed positionally, one per call; the 100 nearest index images are ranked by
    Euclidean distance on the raw vectors. Equal distances keep the index images' sorted order, so results are reproducible.

    Args:
        submission: path of submission.zip.
        test: folder of the query images, *.jpg at any depth.
        index: folder of the images to search, *.jpg at any depth.

    Returns:
        ({"tensorflow", "descriptor_size", "seconds_first_image", "seconds_per_image", "query_ids", "index_ids", "predictions",
        "distances"}, {"queries", "index"}). Predictions and distances map each query id to a list over ranks. Seconds include
        decoding. The mean excludes the first image, whose call also builds the graph. The second part holds the descriptors,
        float32 [number of ids, D].
    """
    queries, found = images_below(test), images_below(index)
    with tempfile.TemporaryDirectory() as folder:
        unzip(submission, folder)
        _model, function = load_signature(folder, CONTEST_SIGNATURE, {})
        seconds = []
        query_vectors = embed(function, queries.values(), seconds)
        index_vectors = embed(function, found.values(), seconds)
    index_ids, predictions, distances = list(found), {}, {}
    for number, query in enumerate(queries):
        away = np.sqrt(np.sum(np.square(index_vectors - query_vectors[number]), axis=1))
        nearest = np.argsort(away, kind="stable")[:RANKED]
        predictions[query] = [index_ids[i] for i in nearest]
        distances[query] = [float(away[i]) for i in nearest]
    scored = {
        "tensorflow": tf.__version__,
        "descriptor_size": int(query_vectors.shape[1]),
        "seconds_first_image": seconds[0],
        "seconds_per_image": float(np.mean(seconds[1:])),
        "query_ids": list(queries),
        "index_ids": index_ids,
        "predictions": predictions,
        "distances": distances,
    }
    return scored, {"queries": query_vectors.astype(np.float32), "index": index_vectors.astype(np.float32)}


def images_below(folder):
    """{id: path} of every *.jpg at any depth, sorted by path; an id is the file name without its suffix."""
    images = {}
    for path in sorted(Path(folder).rglob("*.jpg")):
        if path.stem in images:
            raise SystemExit(f"{images[path.stem]} and {path} have the same id; expected unique file names")
        images[path.stem] = path
    if not images:
        raise SystemExit(f"{folder}: expected *.jpg files at any depth, found none")
    return images


def unzip(submission, folder):
    """Unzips into the empty `folder`; raises `Refused` if saved_model.pb is not at the root."""
    try:
        with zipfile.ZipFile(submission) as archive:
            archive.extractall(folder)
            names = archive.namelist()
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, OSError, ValueError, zlib.error) as error:
        raise Refused(f"{submission}: expected a zip file, found: {error}") from error
    if "saved_model.pb" not in names:
        raise Refused(f"{submission}: expected saved_model.pb at the zip's root, found {sorted(names)[:5]}")


def embed(function, paths, seconds):
    """float64 [N, D] descriptors of the images; appends the seconds of each image to `seconds`."""
    vectors = []
    for path in paths:
        start = time.perf_counter()
        image = read_image(path)
        try:
            outputs = function(tf.convert_to_tensor(image))
        except TypeError as error:  # TensorFlow allows a positional call only if there is exactly one input.
            names = sorted(function.structured_input_signature[1])
            raise Refused(f"expected one input, callable by position; found inputs {names}") from error
        if DESCRIPTOR not in outputs:
            raise Refused(f"expected output {DESCRIPTOR!r}, found {sorted(outputs)}")
        vector = outputs[DESCRIPTOR].numpy()
        if vector.ndim != 1 or not np.isfinite(vector).all():
            raise Refused(f"{path}: expected a finite descriptor of shape [D], found {vector.shape}")
        vectors.append(vector.astype(np.float64))
        seconds.append(time.perf_counter() - start)
    return np.stack(vectors)


def read_image(path):
    """uint8 [H, W, 3], RGB; exits with a message if the file is not a whole image."""
    try:
        with PIL.Image.open(path, formats=IMAGE_FORMATS) as image:
            return np.array(image.convert("RGB"))
    except Exception as error:  # Pillow raises nearly every built-in exception for broken bytes
        raise SystemExit(f"{path}: not a whole image: {error}. Replace the file, or leave it out.") from error


@contextlib.contextmanager
def new_file(path):
    """Yields a temporary path beside `path`; it replaces `path` on success and is removed on failure."""
    partial = f"{path}.{os.getpid()}.partial"
    try:
        yield partial
        os.replace(partial, path)
    finally:
        if os.path.exists(partial):
            os.remove(partial)


def end_with_parent():
    """Has the system end this process when the one that started it dies (`zoo.processes`)."""
    parent = os.environ.pop("LANDMARK_ZOO_PARENT", "")
    if parent.isdigit() and sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != int(parent):
            sys.exit(1)


def main():
    end_with_parent()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", nargs="?", help="JSON file of calls to run")
    parser.add_argument("--score", metavar="ZIP", help="score this submission.zip instead")
    parser.add_argument("--test", metavar="DIR", help="query images")
    parser.add_argument("--index", metavar="DIR", help="images to search")
    parser.add_argument("--out", metavar="JSON", help="predictions to write")
    parser.add_argument("--descriptors", metavar="NPZ", help="descriptors to write as well")
    options = parser.parse_args()
    scoring = [options.score, options.test, options.index, options.out]
    if bool(options.job) == any(scoring) or (any(scoring) and not all(scoring)):
        parser.error("expected either JOB.json, or --score, --test, --index and --out together")
    print(f"tensorflow {tf.__version__}", file=sys.stderr)
    try:
        if options.job:
            run_job(options.job)
            return
        scored, descriptors = score(options.score, options.test, options.index)
    except Refused as error:
        print(error, file=sys.stderr)
        sys.exit(REFUSED)
    with new_file(options.out) as partial, open(partial, "w", encoding="utf-8") as file:
        json.dump(scored, file)
    if options.descriptors:
        with new_file(options.descriptors) as partial, open(partial, "wb") as file:
            np.savez(file, **descriptors)
    print(options.out)


if __name__ == "__main__":
    main()
