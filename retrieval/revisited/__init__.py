"""Revisited Oxford and Paris: image retrieval's customary benchmarks, with their own protocol, beside the contest's.

Radenović, Iscen, Tolias, Avrithis and Chum, "Revisiting Oxford and Paris: Large-Scale Image Retrieval Benchmarking", CVPR 2018,
https://arxiv.org/abs/1803.11285.
"""
