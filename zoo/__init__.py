"""What both frameworks share: specs, weights, checkpoints, recipes, preprocessing, tolerances. Imports no framework."""
