"""Shared by both trainers: recipes, augmented batches, the training loop and its state."""
