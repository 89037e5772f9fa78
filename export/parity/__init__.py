"""Measures one export everywhere that it runs, and compares."""

from export.parity.rows import Row, measure, require, to_json

__all__ = ["Row", "measure", "require", "to_json"]
