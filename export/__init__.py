"""From a checkpoint to a SavedModel that TensorFlow 2.2 runs: ONNX, the normal form, the served signature, the checks."""
