"""The zoo's networks in Paddle; mirrors `torch_models` file by file and name by name."""
