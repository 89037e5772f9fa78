"""The search page's server on a real socket: limits of uploads, too many at once, and how it starts and ends."""

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from retrieval.serve import queue, server, uploads
from retrieval.serve.finder import Finder
from retrieval.serve.server import ServeError, listen, own_names, serve, url
from tests.retrieval.serve.small_town import as_file, picture, served, town_app

PHOTOGRAPH = as_file(picture(1, 1))


def connect(address: str) -> socket.socket:
    parts = urlsplit(address)
    connection = socket.create_connection((parts.hostname, parts.port), timeout=20)
    connection.sendall(f"POST /search HTTP/1.1\r\nHost: {parts.netloc}\r\n".encode())
    return connection


def answer_of(connection: socket.socket) -> str:
    """All that arrives until the server closes the connection."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while more := connection.recv(65536):
            found += more
    return found.decode()


def test_a_search_on_a_live_server(page_url):
    answer = httpx.post(f"{page_url}search", content=PHOTOGRAPH)
    assert answer.json()["hits"][0]["landmark"] == "Green gate"
    assert "server" not in answer.headers


def test_a_claimed_size_is_refused_before_anything_is_sent(page_url):
    with connect(page_url) as connection:
        connection.sendall(f"Content-Length: {uploads.UPLOAD_BYTES + 1}\r\n\r\n".encode())
        answer = answer_of(connection)
    assert answer.startswith("HTTP/1.1 413 ")
    assert "larger than 32 MiB" in answer and "connection: close" in answer.lower()


def test_an_upload_without_a_size_is_cut_off(page_url, monkeypatch):
    monkeypatch.setattr(uploads, "UPLOAD_BYTES", 1 << 20)
    part = b"10000\r\n" + bytes(1 << 16) + b"\r\n"
    with connect(page_url) as connection:
        connection.sendall(b"Transfer-Encoding: chunked\r\n\r\n")
        with pytest.raises(ConnectionError):
            for _ in range(4096):  # 256 MiB
                connection.sendall(part)


def test_an_upload_that_never_ends_is_given_up(page_url, monkeypatch):
    monkeypatch.setattr(uploads, "UPLOAD_SECONDS", 0.3)
    with connect(page_url) as connection:
        connection.sendall(b"Content-Length: 1000\r\n\r\nabc")
        answer = answer_of(connection)
    assert answer.startswith("HTTP/1.1 408 ") and "did not arrive" in answer


@pytest.fixture
def slow_searches(monkeypatch) -> Iterator[threading.Event]:
    """Searches last until the event is set; no more than `queue.AT_ONCE` run at a time."""
    go_on, running = threading.Event(), []
    search = Finder.__call__

    def slow(*given):
        running.append(1)
        assert len(running) <= queue.AT_ONCE
        go_on.wait(20)
        running.pop()
        return search(*given)

    monkeypatch.setattr(Finder, "__call__", slow)
    yield go_on
    go_on.set()


def test_too_many_searches_are_refused_and_the_page_still_answers(town, town_rows, slow_searches):
    answers: list[int] = []

    def ask():
        answers.append(httpx.post(f"{address}search", content=PHOTOGRAPH, timeout=30).status_code)

    with served(town_app(town, town_rows)) as address:
        threads = [threading.Thread(target=ask) for _ in range(queue.AT_ONCE + queue.WAITING + 3)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 15
        while len(answers) < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert answers == [503] * 3
        assert httpx.get(f"{address}health").status_code == 200
        assert httpx.get(f"{address}images/3").status_code == 200
        slow_searches.set()
        for thread in threads:
            thread.join()
        assert sorted(answers) == [200] * (queue.AT_ONCE + queue.WAITING) + [503] * 3
        assert httpx.post(f"{address}search", content=PHOTOGRAPH).status_code == 200


def test_a_search_that_takes_too_long_is_given_up(town, town_rows, slow_searches, monkeypatch):
    monkeypatch.setattr(queue, "SECONDS", 0.3)
    with served(town_app(town, town_rows)) as address:
        answer = httpx.post(f"{address}search", content=PHOTOGRAPH)
        slow_searches.set()
    assert answer.status_code == 504 and "took longer" in answer.json()["error"]


def test_somebody_who_leaves_takes_no_place_and_is_no_error(town, town_rows, slow_searches, capsys):
    with served(town_app(town, town_rows)) as address:
        for _ in range(queue.AT_ONCE + queue.WAITING + 3):
            with connect(address) as connection:
                connection.sendall(b"Content-Length: 1000\r\n\r\nabc")
            time.sleep(0.03)
        slow_searches.set()
        assert httpx.post(f"{address}search", content=PHOTOGRAPH).status_code == 200
    assert capsys.readouterr().err == ""


# --- where it listens


def test_a_port_in_use_is_an_error_that_says_what_to_do():
    with listen("127.0.0.1", 0) as first, pytest.raises(ServeError, match=r"another program uses the port.*--port"):
        listen("127.0.0.1", first.getsockname()[1])


@pytest.mark.parametrize("host", ["no-such-host.invalid", "203.0.113.9", "", " ", "a\nb", "x" * 300])
def test_a_host_that_is_not_this_machine(host):
    with pytest.raises(ServeError, match="--host|no address of this machine"):
        listen(host, 0)


def test_only_this_machine_without_a_warning(capsys):
    with listen("127.0.0.1", 0) as local:
        port = local.getsockname()[1]
        assert url(local, "127.0.0.1") == f"http://127.0.0.1:{port}/"
    assert capsys.readouterr().err == ""
    with listen("0.0.0.0", 0) as everywhere:
        assert url(everywhere, "0.0.0.0") == f"http://localhost:{everywhere.getsockname()[1]}/"
    assert "without a password" in capsys.readouterr().err
    assert server.HOST == "127.0.0.1"
    name = socket.gethostname()
    assert own_names("photos") == {"photos", name, f"{name.split('.')[0]}.local"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_good_order(town, town_rows, number, capsys, monkeypatch):
    def raised(*_):
        raise KeyboardInterrupt

    before = signal.signal(number, raised)
    with listen("127.0.0.1", 0) as listener:
        address = url(listener, "127.0.0.1")

        def stop():
            assert httpx.get(f"{address}health").status_code == 200
            signal.raise_signal(number)

        threading.Timer(0.3, stop).start()
        try:
            serve(town_app(town, town_rows), listener)
        finally:
            signal.signal(number, before)
    assert capsys.readouterr().err == "stopped\n"
    with pytest.raises(httpx.ConnectError):
        httpx.get(address)
