"""Times a network by operator, and its convolutions as bare matrix products, in the TensorFlow or ONNX Runtime that runs this.

Stand-alone: Python 3.8 syntax, and no imports from this project, which is not installed in the environment of TensorFlow 2.2.

Example:
    python benchmarks/kernels_worker.py \\
        '{"runtime": "tensorflow", "network": "saved_model", "shape": [1, 224, 224, 3], "products": [[3136, 64, 64]], "threads": 2}'

Writes one line of JSON: {"version", "ms": of a batch, "operators": {type: ms, as traced}, "products": ms of all products}.
"""

import json
import os
import statistics
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

ROUNDS, TRACED = 40, 10


def median_ms(call):
    """Median milliseconds of a call; the first five are not counted."""
    seconds = []
    for _ in range(5 + ROUNDS):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds[5:])


def arrays(products, random):
    """{(m, k): a left side}, and the right side of each product. The right sides are as many as in the network: they do not stay in caches."""
    left = {(m, k): random.normal(size=(m, k)).astype(np.float32) for m, k, _ in products}
    return left, [random.normal(size=(k, n)).astype(np.float32) for _, k, n in products]


def in_tensorflow(job):
    """TensorFlow 2's graphs in a session, which can trace every operator in each version."""
    import tensorflow as tf

    v1 = tf.compat.v1
    random = np.random.default_rng(0)
    config = v1.ConfigProto(intra_op_parallelism_threads=job["threads"], inter_op_parallelism_threads=1)
    with v1.Graph().as_default(), v1.Session(config=config) as session:
        signatures = v1.saved_model.load(session, ["serve"], job["network"]).signature_def
        signature = signatures[job["signature"]]
        (given,), (output,) = signature.inputs.values(), signature.outputs.values()
        feed = {given.name: random.uniform(0, 255, job["shape"]).astype(np.float32)}
        total = median_ms(lambda: session.run(output.name, feed))
        operators = {}
        for _ in range(TRACED):
            found = v1.RunMetadata()
            options = v1.RunOptions(trace_level=v1.RunOptions.FULL_TRACE)
            session.run(output.name, feed, options=options, run_metadata=found)
            for device in found.step_stats.dev_stats:
                if device.device.endswith("CPU:0"):
                    for node in device.node_stats:
                        kind = node.timeline_label.partition(" = ")[2].partition("(")[0]
                        taken = (node.op_end_rel_micros - node.op_start_rel_micros) / 1000 / TRACED
                        operators[kind] = operators.get(kind, 0) + taken
    with v1.Graph().as_default(), v1.Session(config=config) as session:
        left, right = arrays(job["products"], random)
        left = {shape: v1.placeholder_with_default(array, array.shape) for shape, array in left.items()}
        made = [tf.matmul(left[m, k], array).op for (m, k, _), array in zip(job["products"], right)]
        products = median_ms(lambda: session.run(made))
    return {"version": tf.__version__, "ms": total, "operators": operators, "products": products}


def in_onnx_runtime(job):
    """ONNX Runtime with its default options, but for the number of threads."""
    import onnxruntime
    from onnx import helper, numpy_helper

    random = np.random.default_rng(0)

    def session(model, folder=None):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = job["threads"]
        if folder:
            options.enable_profiling = True
            options.profile_file_prefix = os.path.join(folder, "profile")
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    batch, side, _, channels = job["shape"]
    given = random.normal(size=(batch, channels, side, side)).astype(np.float32)
    plain = session(job["network"])
    feed = {plain.get_inputs()[0].name: given}
    total = median_ms(lambda: plain.run(None, feed))
    operators = {}
    with tempfile.TemporaryDirectory() as folder:
        traced = session(job["network"], folder)
        for _ in range(TRACED):
            traced.run(None, feed)
        with open(traced.end_profiling(), encoding="utf-8") as file:
            events = json.load(file)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            kind = event["args"]["op_name"]
            operators[kind] = operators.get(kind, 0) + event["dur"] / 1000 / TRACED
    left, right = arrays(job["products"], random)
    kinds = [
        [helper.make_tensor_value_info(name, 1, shape) for name, shape in named]
        for named in (
            [("{}x{}".format(*shape), shape) for shape in left],
            [("y{}".format(i), (m, n)) for i, (m, _, n) in enumerate(job["products"])],
        )
    ]
    nodes = [
        helper.make_node("MatMul", ["{}x{}".format(m, k), "w{}".format(i)], ["y{}".format(i)])
        for i, (m, k, _) in enumerate(job["products"])
    ]
    weights = [numpy_helper.from_array(array, "w{}".format(i)) for i, array in enumerate(right)]
    model = helper.make_model(
        helper.make_graph(nodes, "products", *kinds, initializer=weights),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    bare = session(model.SerializeToString())
    feed_bare = {"{}x{}".format(*shape): array for shape, array in left.items()}
    products = median_ms(lambda: bare.run(None, feed_bare))
    return {"version": onnxruntime.__version__, "ms": total, "operators": operators, "products": products}


RUNTIMES = {"tensorflow": in_tensorflow, "onnxruntime": in_onnx_runtime}


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    print(json.dumps(RUNTIMES[given["runtime"]](given)))
