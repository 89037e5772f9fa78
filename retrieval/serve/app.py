"""The search page and its JSON interface, as an ASGI application."""

import asyncio
import dataclasses
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi import Path as PathValue
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from retrieval.data.images import UnreadableImageError
from retrieval.serve.finder import HITS, MOST_HITS, Answer, Finder
from retrieval.serve.guard import Guard
from retrieval.serve.page import FILES, page_renderer
from retrieval.serve.photographs import preview, upright
from retrieval.serve.pictures import LARGE, SMALL, Pictures
from retrieval.serve.queue import Queue
from retrieval.serve.uploads import Refused, read_upload
from zoo.contest import IMAGE_FORMATS
from zoo.errors import ZooError

NO_PICTURE = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 120 90" width="320" height="240">'
    '<path d="M38 62l16-22 11 14 7-9 11 17zM76 32a5 5 0 1 1-.01 0zM30 18h60v54H30zM24 78l72-66" '
    'fill="none" stroke="#7f8794" stroke-width="2"/></svg>'
)
"""Shown instead of an image that is missing or damaged."""
_PICTURE_THREADS = 4


def create_app(
    finder: Finder,
    pictures: Pictures | None = None,
    examples: Pictures | None = None,
    *,
    names: Collection[str] = (),
) -> ASGIApp:
    """The application.

    Args:
        finder: what finds the index images.
        pictures: of the index images, by row; without them only ids are shown.
        examples: photographs to try.
        names: host names that requests may be sent to, besides "localhost" and IP addresses.
    """
    app = FastAPI(openapi_url=None)  # its page of documentation loads scripts from a CDN
    render = page_renderer(finder, has_pictures=pictures is not None, examples=len(examples) if examples else 0)
    _add_errors(app, render)
    _add_page(app, render)
    _add_search(app, render, finder, examples, has_pictures=pictures is not None)
    for prefix, of in (("/images", pictures), ("/examples", examples)):
        if of is not None:
            _add_pictures(app, prefix, of)
    return Guard(app, names)


def _add_errors(app: FastAPI, render: Callable[..., str]) -> None:
    """Every error is a sentence: on the page, or as {"error": …}."""

    def answer(request: Request, status: int, why: str) -> Response:
        # What is left of a refused upload is not read, so the connection cannot be used again.
        headers = {"Connection": "close"} if has_body(request) else {}
        headers |= {"Retry-After": "2"} if status == 503 else {}
        if _wants_page(request):
            return HTMLResponse(render(error=why), status, headers)
        return JSONResponse({"error": why}, status, headers)

    def has_body(request: Request) -> bool:
        return request.method not in ("GET", "HEAD")

    @app.exception_handler(Refused)
    def refused(request: Request, error: Refused) -> Response:
        return answer(request, error.status, error.why)

    @app.exception_handler(ClientDisconnect)
    def gone(request: Request, error: ClientDisconnect) -> Response:
        return answer(request, 400, "The upload was broken off.")

    @app.exception_handler(UnreadableImageError)
    def unreadable(request: Request, error: UnreadableImageError) -> Response:
        expected = f"Expected a whole image as {', '.join(IMAGE_FORMATS)}."
        return answer(request, 422, f"The file is not a usable photograph: {error.reason.rstrip('.')}. {expected}")

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return answer(request, 422, f"{first['loc'][-1]}: {first['msg']}.")

    @app.exception_handler(HTTPException)
    def http(request: Request, error: HTTPException) -> Response:
        return answer(request, error.status_code, f"{error.detail}.")

    @app.exception_handler(ZooError)
    def failed(request: Request, error: ZooError) -> Response:
        return answer(request, 500, f"The search failed: {error}")

    @app.exception_handler(Exception)
    def bug(request: Request, error: Exception) -> Response:
        return answer(request, 500, "The search failed unexpectedly. The server's terminal says where.")


def _add_page(app: FastAPI, render: Callable[..., str]) -> None:
    @app.get("/")
    def start() -> Response:
        return HTMLResponse(render())

    @app.get("/search")
    def again() -> Response:
        # Somebody without script who opens the address of a result.
        return RedirectResponse("/", 303)

    def add_file(name: str, kind: str, paths: Sequence[Path]) -> None:
        content = b"\n".join(path.read_bytes() for path in paths)

        @app.get(f"/{name}")
        def file() -> Response:
            return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})

    for name, (kind, paths) in FILES.items():
        add_file(name, kind, paths)


def _add_search(
    app: FastAPI, render: Callable[..., str], finder: Finder, examples: Pictures | None, *, has_pictures: bool
) -> None:
    queue = Queue()

    @app.get("/health")
    async def health() -> Response:
        rows, dimensions = finder.index.rows.shape
        model = finder.source.get("model")
        return JSONResponse({"status": "ok", "images": rows, "dimensions": dimensions, "model": model})

    @app.post("/search")
    async def search(
        request: Request,
        k: Annotated[int, Query(ge=1, le=MOST_HITS)] = HITS,
        example: Annotated[int | None, Query(ge=0)] = None,
    ) -> Response:
        start = time.perf_counter()
        async with queue.place():
            data = await read_upload(request) if example is None else b""
            answer, shown = await queue.run(find, data, example, k, shown=_wants_page(request))
        seconds = time.perf_counter() - start
        if shown is not None:
            return HTMLResponse(render(answer=answer, photograph=shown, seconds=seconds))
        return JSONResponse(_as_json(answer, seconds, has_pictures=has_pictures))

    def find(data: bytes, example: int | None, k: int, *, shown: bool) -> tuple[Answer, str | None]:
        if example is not None:
            if examples is None or example >= len(examples):
                raise Refused(404, "There is no such example.")
            data = examples.photograph(example)
        pixels = upright(data)
        return finder(pixels, k), preview(pixels) if shown else None


def _add_pictures(app: FastAPI, prefix: str, pictures: Pictures) -> None:
    threads = ThreadPoolExecutor(_PICTURE_THREADS, thread_name_prefix="pictures")

    @app.get(f"{prefix}/{{row}}")
    async def picture(request: Request, row: Annotated[int, PathValue(ge=0)], large: bool = False) -> Response:
        if row >= len(pictures):
            raise Refused(404, f"There is no image {row}.")
        known = request.headers.get("if-none-match")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(threads, _picture, pictures, row, LARGE if large else SMALL, known)


def _picture(pictures: Pictures, row: int, side: int, known: str | None) -> Response:
    """A photograph as a JPEG file, nothing if the browser knows it, or `NO_PICTURE`."""
    tag = f'"{pictures.tag(row, side)}"'
    headers = {
        "ETag": tag,
        "Cache-Control": "private, no-cache",
    }  # the browser keeps it, and asks whether it has changed
    if known == tag:
        return Response(None, 304, headers)
    try:
        return Response(pictures.picture(row, side), 200, headers, "image/jpeg")
    except UnreadableImageError:
        return Response(NO_PICTURE, media_type="image/svg+xml")


def _as_json(answer: Answer, seconds: float, *, has_pictures: bool) -> dict[str, Any]:
    hits = [dataclasses.asdict(hit) | {"image": f"/images/{hit.row}" if has_pictures else None} for hit in answer.hits]
    return {"width": answer.width, "height": answer.height, "seconds": round(seconds, 4), "hits": hits}


def _wants_page(request: Request) -> bool:
    """Whether a search was asked for by a browser's form or by the page's script, and not by a program."""
    return request.method == "POST" and "text/html" in request.headers.get("accept", "")
