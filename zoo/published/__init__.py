"""Reads checkpoints of other projects: their file formats, their tensor names, and pickles without executing them."""
