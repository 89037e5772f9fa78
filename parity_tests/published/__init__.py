"""Retrieval networks as their libraries publish and compute them, in plain functions of PyTorch.

Nothing here is this project's: each network is written from its library's description, with its library's tensor names, random weights,
head and treatment of pixels. What the zoo's import derives from a file (the neck, for example) is therefore derived here again.
"""
