"""Searches run in a few threads, so that the page stays responsive; too many at once are refused."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import ParamSpec, TypeVar

from retrieval.serve.uploads import Refused

AT_ONCE = 2
"""Searches that run at the same time: one photograph is decoded while another is searched for."""
WAITING = 8
"""Searches that wait, each with its upload in memory."""
SECONDS = 60.0
"""How long a search may wait and run."""

Given = ParamSpec("Given")
Made = TypeVar("Made")


class Queue:
    """The searches that run and wait. Its methods are called in the server's event loop."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="search")
        self._inside = 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place for one search, from before its upload is read to its answer.

        Raises:
            Refused: all places are taken.
        """
        if self._inside >= AT_ONCE + WAITING:
            raise Refused(503, "Too many photographs are being searched for. Try again in a moment.")
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    async def run(self, function: Callable[Given, Made], *args: Given.args, **kwargs: Given.kwargs) -> Made:
        """Calls a function in one of the threads.

        Raises:
            Refused: it took longer than `SECONDS`.
        """
        job = self._threads.submit(function, *args, **kwargs)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(job), SECONDS)
        except TimeoutError:
            raise Refused(504, f"The search took longer than {SECONDS:.0f} seconds.") from None
