"""Measurements: each module's command makes one file of benchmarks/results."""
