"""Times one grouped 3×3 convolution written as 1 … groups dense ones; runs in any TensorFlow 2, Python 3.8 included.

Reads [[channels, groups, side, blocks], …] from argv as JSON and writes the milliseconds of each to stdout. A convolution
with fewer blocks than groups has several groups per block, with zeros between them. The 1×1 convolution before it is split
in the same way.

Example:
    python benchmarks/grouped_convolutions_worker.py '[[128, 32, 56, 8]]'
"""

import json
import sys
import time

import numpy as np
import tensorflow as tf

ROUNDS = 12


def layer(channels, groups, blocks):
    """1×1 convolution, ReLU, the grouped convolution in `blocks` parts, ReLU. The values do not matter: zeros take as long as other numbers."""
    each = channels // blocks
    kernels = [tf.constant(np.full((3, 3, each, each), 0.01, np.float32)) for _ in range(blocks)]
    before = [tf.constant(np.full((1, 1, channels, each), 0.01, np.float32)) for _ in range(blocks)]
    bias = tf.constant(np.zeros(each, np.float32))

    @tf.function
    def run(images):
        parts = [tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(images, k, 1, "SAME"), bias)) for k in before]
        parts = [tf.nn.conv2d(part, kernel, 1, "SAME") for part, kernel in zip(parts, kernels)]
        parts = [tf.nn.relu(tf.nn.bias_add(part, bias)) for part in parts]
        return parts[0] if blocks == 1 else tf.concat(parts, 3)

    return run


def main():
    """Command line."""
    cases = json.loads(sys.argv[1])
    functions, best = [], [float("inf")] * len(cases)
    for channels, groups, side, blocks in cases:
        images = tf.constant(np.ones((1, side, side, channels), np.float32))
        function = layer(channels, groups, blocks)
        function(images)
        functions.append((function, images))
    for _ in range(ROUNDS):  # interleaved, so that a slow moment of the machine affects all of them
        for index, (function, images) in enumerate(functions):
            start = time.perf_counter()
            function(images).numpy()
            best[index] = min(best[index], time.perf_counter() - start)
    print(json.dumps([round(1000 * seconds, 3) for seconds in best]))


if __name__ == "__main__":
    main()
