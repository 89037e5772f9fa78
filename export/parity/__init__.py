"""Runs one export in every backend and compares the results."""

from export.parity.rows import Row, measure, require, to_json

__all__ = ["Row", "measure", "require", "to_json"]
