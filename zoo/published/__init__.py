"""Reads checkpoints published by other projects: their file formats, their tensor names, and pickles without executing them."""
