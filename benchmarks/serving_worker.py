"""Times one network in the Python that runs it; started by `benchmarks/serving.py`.

Stand-alone: Python 3.8 syntax, and no imports from this project, which is not installed in the environments of
TensorFlow 2.2 and of the contenders. Its argument is a job: what to build, in which forms, and an npz of inputs.

Example:
    python benchmarks/serving_worker.py \\
        '{"kind": "saved_model", "forms": {"batches": ["saved_model", "embed_resized"]}, "inputs": "x.npz", "threads": 2}'

It answers with one line of JSON, {"forms": {form: error or null}, "versions": {}}, or {"error"}. For each further line of stdin,
{"form", "array", "rows", "times"}, it runs the first rows of that array (rows null: the array as it is) once untimed, which
wakes caches and threads, then `times` times, and answers {"seconds": [], "output": [of the first row]}, or {"error"}.
"""

import functools
import json
import os
import re
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["TF_USE_LEGACY_KERAS"] = "1"  # the hand-written networks need Keras 2, the only one in TensorFlow 2.2

import numpy as np


def tensorflow(threads):
    """TensorFlow with that many threads."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    return tf


def saved_model_forms(job):
    """Signatures of SavedModels: {form: [folder, signature]}; a third entry "frozen" turns variables into constants."""
    tf = tensorflow(job["threads"])
    load = functools.lru_cache(maxsize=None)(tf.saved_model.load)

    def build(folder, signature, frozen=None):
        loaded = load(folder)
        function = loaded.signatures[signature]
        (name,) = function.structured_input_signature[1]
        if frozen:
            constants = freeze(function)
            return tf.constant, lambda images: np.asarray(constants(images)[0])
        # `owner`: a signature's function dies with the object that it came from.
        return tf.constant, lambda images, owner=loaded: next(iter(function(**{name: images}).values())).numpy()

    return {form: functools.partial(build, *where) for form, where in job["forms"].items()}, {
        "tensorflow": tf.__version__
    }


def freeze(function):
    """The concrete function with its variables as constants: TensorFlow's fastest form of a Keras network."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    return convert_variables_to_constants_v2(function)


def keras_forms(job):
    """A hand-written Keras network down to its averaged features, as a tf.function and frozen."""
    tf = tensorflow(job["threads"])
    side = job["size"]
    versions = {"tensorflow": tf.__version__}
    if job["network"] == "resnet50":
        network = tf.keras.applications.ResNet50(
            weights=None, include_top=False, pooling="avg", input_shape=(side, side, 3)
        )
    else:
        import keras_cv_attention_models
        from keras_cv_attention_models import resnest

        versions["keras-cv-attention-models"] = keras_cv_attention_models.__version__
        maps = resnest.ResNest50(input_shape=(side, side, 3), num_classes=0, pretrained=None)
        network = tf.keras.Model(maps.input, tf.keras.layers.GlobalAveragePooling2D()(maps.output))
    spec = tf.TensorSpec([None, side, side, 3], tf.float32)
    function = tf.function(lambda images: network(images, training=False), input_signature=[spec])

    def build_frozen():
        constants = freeze(function.get_concrete_function())
        return tf.constant, lambda images: constants(images)[0].numpy()

    forms = {"tf.function": lambda: (tf.constant, lambda images: function(images).numpy()), "frozen": build_frozen}
    return forms, versions


def onnx_forms(job):
    """ONNX files in ONNX Runtime: {form: path}, with its default options but for the number of threads."""
    import onnxruntime

    def build(path):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = job["threads"]
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return np.ascontiguousarray, lambda images: session.run(None, {name: images})[0]

    forms = {form: functools.partial(build, path) for form, path in job["forms"].items()}
    return forms, {"onnxruntime": onnxruntime.__version__}


BUILDERS = {"saved_model": saved_model_forms, "keras": keras_forms, "onnx": onnx_forms}
"""Each turns a job into ({form: a function that returns (numpy to tensor, tensor to numpy output)}, versions).
Making the tensor is not timed."""


def phrase(error):
    """The first sentence of an error message, without the machine's name, which TensorFlow adds."""
    text = str(error).strip() or type(error).__name__
    text = re.sub(r" in binary running on \S+\.", ".", text)
    return re.split(r"\n|(?<=[a-z')])\. ", text)[0][:160]


def answer(made, inputs, request):
    """Runs one request."""
    values = inputs[request["array"]]
    prepare, call = made[request["form"]]
    try:
        images = prepare(values if request["rows"] is None else values[: request["rows"]])
        output = call(images)
        seconds = []
        for _ in range(request["times"]):
            start = time.perf_counter()
            call(images)
            seconds.append(time.perf_counter() - start)
    except Exception as error:  # whatever a library raises becomes its row of the table
        return {"error": phrase(error)}
    return {"seconds": seconds, "output": np.ravel(output if request["rows"] is None else output[0]).tolist()}


def serve(builders):
    """Reads the job, builds its forms and answers requests until stdin ends."""
    # Libraries print to stdout; answers go through a private copy of it.
    answers = os.fdopen(os.dup(1), "w", 1)
    os.dup2(2, 1)
    job = json.loads(sys.argv[1])
    with np.load(job["inputs"], allow_pickle=False) as arrays:
        inputs = dict(arrays)
    made, failed = {}, {}
    try:
        forms, versions = builders[job["kind"]](job)
    except Exception as error:
        print(json.dumps({"error": phrase(error)}), file=answers)
        return
    for form, build in forms.items():
        try:
            made[form] = build()
            failed[form] = None
        except Exception as error:
            failed[form] = phrase(error)
    print(json.dumps({"forms": failed, "versions": versions}), file=answers)
    for line in sys.stdin:
        print(json.dumps(answer(made, inputs, json.loads(line))), file=answers)


if __name__ == "__main__":
    serve(BUILDERS)
