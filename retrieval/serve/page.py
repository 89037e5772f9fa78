"""Renders the search page."""

from collections.abc import Callable
from pathlib import Path

from retrieval.pages import PALETTE, template_environment
from retrieval.serve.finder import Answer, Finder
from retrieval.serve.uploads import FIELD, UPLOAD_BYTES
from zoo.contest import IMAGE_FORMATS

HERE = Path(__file__).parent
TEMPLATE = "page.html.j2"
FILES = {
    "page.css": ("text/css; charset=utf-8", (PALETTE, HERE / "page.css")),
    "page.js": ("text/javascript; charset=utf-8", (HERE / "page.js",)),
}
"""What the page loads, besides photographs: name → its type, and the files that it consists of."""


def page_renderer(finder: Finder, *, has_pictures: bool, examples: int) -> Callable[..., str]:
    """What renders the page: `render(answer=…, photograph=…, seconds=…)` with an answer, `render(error=…)` with an error.

    Args:
        finder: what finds the index images.
        has_pictures: whether there are photographs of the index images.
        examples: number of photographs to try.
    """
    template = template_environment(HERE).get_template(TEMPLATE)
    constants = {
        "images": len(finder.index.ids),
        "model": finder.source.get("model") or "a model without a name",
        "has_pictures": has_pictures,
        "examples": examples,
        "field": FIELD,
        "formats": [name.replace("WEBP", "WebP") for name in IMAGE_FORMATS],
        "types": ",".join(f"image/{name.lower()}" for name in IMAGE_FORMATS),
        "limit": UPLOAD_BYTES,
    }

    def render(*, answer: Answer | None = None, photograph: str = "", seconds: float = 0.0, error: str = "") -> str:
        return template.render(**constants, answer=answer, photograph=photograph, seconds=seconds, error=error)

    return render
