"""Whom the search page's server answers: requests to its own names, and not those that other sites make a browser send."""

import socket

import pytest
from fastapi.testclient import TestClient

from retrieval.serve.app import create_app
from retrieval.serve.guard import host_name
from retrieval.serve.server import own_names
from tests.retrieval.serve.conftest import LOCAL
from tests.retrieval.serve.small_town import as_file, picture, town_finder


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8000", "127.0.0.1", "localhost:1", "LOCALHOST", "[::1]:8000", "192.168.0.7:80"]
)
def test_addresses_and_localhost_are_answered(client, host):
    assert client.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "", "127.0.0.1@evil.example",
        "evil.example/127.0.0.1", "evil.example#@127.0.0.1", "127.0.0.1:port", "[::1", "[evil]", "127.0.0.1 evil.example",
    ],
)  # fmt: skip
def test_other_names_are_refused(client, host):
    """A site whose name leads to 127.0.0.1 for a moment (DNS rebinding) could read our answers as its own."""
    answer = client.get("/health", headers={"Host": host})
    assert answer.status_code == 400 and set(answer.json()) == {"error"}


def test_a_name_that_the_server_was_given(town, town_rows):
    app = create_app(town_finder(town, town_rows), names=own_names("Photos.home"))
    for host, status in (("photos.home:8000", 200), (socket.gethostname(), 200), ("photos", 400)):
        assert TestClient(app, base_url=LOCAL).get("/health", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "http://127.0.0.1"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Origin": "http://evil.example"},
    ],
)
def test_what_other_sites_make_a_browser_send_is_refused(client, headers):
    answer = client.post("/search", content=as_file(picture(0, 0)), headers=headers)
    assert answer.status_code == 403 and set(answer.json()) == {"error"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": LOCAL},
        {"Origin": LOCAL, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"},
        {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"},
    ],
)
def test_its_own_page_and_programs_are_answered(client, headers):
    assert client.post("/search", content=as_file(picture(0, 0)), headers=headers).status_code == 200


def test_a_link_from_another_site_opens_the_page_but_shows_no_picture_there(client):
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client.get("/", headers=link).status_code == 200
    assert client.get("/images/0", headers=link | {"Sec-Fetch-Mode": "no-cors"}).status_code == 403


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("A.Example:80", "a.example"),
        ("[::1]:80", "::1"),
        ("[FE80::1]", "fe80::1"),
        ("a:b", None),
        ("", None),
    ],
)
def test_names_of_hosts(header, name):
    assert host_name(header) == name
