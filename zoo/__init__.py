"""What a model is: specs, weights, checkpoints, preprocessing, tolerances. Imports no framework."""
