"""Reads an uploaded photograph into memory, within limits of size and time. Nothing is written to the disk."""

import asyncio
from collections.abc import AsyncGenerator

import python_multipart  # noqa: F401  (Starlette's form parser needs it, and only says so when the first form arrives)
from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

FIELD = "photograph"
"""The name of the form's file."""
UPLOAD_BYTES = 32 << 20
"""Bytes of an uploaded file. Its pixels have the limits of `retrieval.data.images`."""
UPLOAD_SECONDS = 60.0
"""How long an upload may take."""
_ENVELOPE = 1 << 16
"""Bytes of a form around its file."""


class Refused(Exception):
    """A request that is not answered: its status, and a sentence for people."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


class _InMemory(MultiPartParser):
    spool_max_size = UPLOAD_BYTES + _ENVELOPE  # a larger file would go to the disk


async def read_upload(request: Request) -> bytes:
    """The file of a request: of its form if it has one (`FIELD`), otherwise its whole body.

    Raises:
        Refused: 413 if it is too large, found as early as possible; 408 if it takes too long; 400 if there is no file.
    """
    is_form = request.headers.get("content-type", "").lower().startswith("multipart/form-data")
    try:
        async with asyncio.timeout(UPLOAD_SECONDS):
            if is_form:
                data = await _file_of_form(request)
            else:
                data = b"".join([chunk async for chunk in _within(request, UPLOAD_BYTES)])
    except TimeoutError:
        raise Refused(408, f"The photograph did not arrive within {UPLOAD_SECONDS:.0f} seconds.") from None
    if not data:
        raise Refused(400, "There is no photograph in the request. Choose one first.")
    return data


async def _file_of_form(request: Request) -> bytes:
    parser = _InMemory(request.headers, _within(request, UPLOAD_BYTES + _ENVELOPE), max_files=1, max_fields=0)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise Refused(400, f"The form cannot be read: {error.message} Expected one file named {FIELD!r}.") from error
    file = form.get(FIELD)
    try:
        return await file.read() if isinstance(file, UploadFile) else b""
    finally:
        await form.close()


async def _within(request: Request, most: int) -> AsyncGenerator[bytes, None]:
    """The body of a request, until it is larger than `most` bytes."""
    why = f"The file is larger than {UPLOAD_BYTES >> 20} MiB. Choose a smaller one, or save it with fewer pixels."
    claimed = request.headers.get("content-length", "")
    if claimed.isdecimal() and (len(claimed) > 18 or int(claimed) > most):
        raise Refused(413, why)
    found = 0
    async for chunk in request.stream():
        found += len(chunk)
        if found > most:
            raise Refused(413, why)
        yield chunk
