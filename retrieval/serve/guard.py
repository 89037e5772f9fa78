"""What every request and every answer goes through: whom the server talks to, and what its pages may do."""

import ipaddress
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS: Mapping[str, str] = {
    # `data:` is the uploaded photograph as the page shows it.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with "no-referrer", browsers send the form with the origin "null"
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Guard:
    """Refuses requests that other sites make the user's browser send, and adds `HEADERS` to every answer.

    A page of another site cannot read our answers, but could make the browser ask, and with a name of its own that leads to this
    machine (DNS rebinding) it could read them too. So the request's host must be an address or one of our names.

    Args:
        app: what answers.
        names: names of this server, without a port; "localhost" and every IP address are always right.
    """

    def __init__(self, app: ASGIApp, names: Collection[str] = ()) -> None:
        self._app = app
        self._names = {"localhost", *(name.casefold() for name in names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As an ASGI application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        problem = self._problem(Headers(scope=scope))
        app = self._app if problem is None else JSONResponse({"error": problem[1]}, problem[0])
        await app(scope, receive, guarded)

    def _problem(self, headers: Headers) -> tuple[int, str] | None:
        """Status and reason of a request that is refused; None if it may go on."""
        host = headers.get("host", "")
        name = host_name(host)
        if name is None or not (name in self._names or _is_address(name)):
            return 400, f"This server is not {host[:80]!r}. Open it by the address that it printed."
        navigates = headers.get("sec-fetch-mode") == "navigate"
        foreign = headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not navigates
        origin = headers.get("origin")
        if foreign or (origin is not None and urlsplit(origin).netloc.casefold() != host.casefold()):
            return 403, "Another site's page sent this request. Open the search page itself."
        return None


def host_name(header: str) -> str | None:
    """The name or address in a `Host` header, without its port and in lower case; None if the header is malformed."""
    try:
        parts = urlsplit(f"//{header}")
        if parts.netloc != header or "@" in header:
            return None
        parts.port  # noqa: B018  (raises for a port that is no number)
        return parts.hostname
    except ValueError:
        return None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
