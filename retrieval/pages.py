"""What the report and the search page have in common: their colours and how their templates are rendered."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

PALETTE = Path(__file__).with_name("palette.css")
"""Colours of both pages in light and dark mode; stands before a page's own style."""


def template_environment(folder: Path) -> Environment:
    """Renders the templates in a folder: values are escaped, and one that is missing is an error."""
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
