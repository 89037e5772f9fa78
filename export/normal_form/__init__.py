"""ONNX → ONNX: the form that TensorFlow 2.2 has operators for, at dynamic sizes."""
