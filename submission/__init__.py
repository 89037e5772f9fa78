"""Packs a SavedModel into the folder that is uploaded to Kaggle: `submission.pack`."""
