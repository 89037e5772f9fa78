"""Other people's checkpoints: their files, their names, their pickles read as data."""
