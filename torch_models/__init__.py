"""The zoo's networks in PyTorch; `paddle_models` mirrors this package file by file and name by name."""
