"""What both trainers share: recipes, the loop, augmented batches."""
