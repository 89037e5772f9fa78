"""The web server: one process, on this machine only unless asked otherwise."""

import errno
import ipaddress
import os
import socket
from contextlib import suppress

import uvicorn
from starlette.types import ASGIApp

from zoo.command import log
from zoo.errors import ZooError

HOST, PORT = "127.0.0.1", 8000
_CONNECTIONS = 64
"""Connections at the same time; more are answered with 503."""
_IDLE_SECONDS = 15
_LAST_SECONDS = 5
"""How long requests may go on after Ctrl-C."""


class ServeError(ZooError):
    """The server cannot listen where it was asked to."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; connections wait until `serve` answers them.

    Args:
        host: a name or an address of this machine.
        port: from 0 to 65535; 0 takes a free one.

    Raises:
        ServeError: the port is in use or reserved, or the host is not one of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise ServeError(
            f"--host {host}: {getattr(error, 'strerror', None) or error}. Use {HOST}, or a name of this machine."
        ) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_CONNECTIONS)
    except OSError as error:
        listener.close()
        raise ServeError(f"cannot listen on {host}, port {port}: {_why(error)}") from error
    if not _bound(listener).is_loopback:
        log(
            f"warning: --host {host} lets everybody who can reach this machine search it and see its images, without a password and "
            "without encryption"
        )
    return listener


def url(listener: socket.socket, host: str) -> str:
    """The address of the page, as a browser takes it."""
    port = listener.getsockname()[1]
    name = "localhost" if _bound(listener).is_unspecified else host
    return f"http://[{name}]:{port}/" if ":" in name else f"http://{name}:{port}/"


def own_names(host: str) -> set[str]:
    """The host names by which this server may be reached; see `retrieval.serve.guard`."""
    name = socket.gethostname()
    return {
        host,
        name,
        name.partition(".")[0] + ".local",
    }  # the last is what computers in a home network call each other


def make_server(app: ASGIApp) -> uvicorn.Server:
    """The web server of an application; it is not started."""
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=_LAST_SECONDS,
    )
    return uvicorn.Server(config)


def serve(app: ASGIApp, listener: socket.socket) -> None:
    """Answers requests until Ctrl-C or SIGTERM, and ends in good order."""
    with suppress(KeyboardInterrupt):  # uvicorn raises the signal again when it has ended
        make_server(app).run(sockets=[listener])
    log("stopped")


def _bound(listener: socket.socket) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0])


def _why(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program uses the port. Stop it, or choose another --port; 0 takes a free one."
    if error.errno in (errno.EACCES, errno.EPERM):
        return "the port is reserved. Choose one above 1023."
    if error.errno == errno.EADDRNOTAVAIL:
        return f"it is no address of this machine. Use {HOST}, or one of its own."
    return error.strerror or os.strerror(error.errno or 0)
