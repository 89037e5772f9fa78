"""The small town and its search page."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from retrieval.embeddings import Embeddings
from tests.retrieval.serve.small_town import served, town_app, town_index, write_town

LOCAL = "http://127.0.0.1:8000"


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set; nobody may change it."""
    root = tmp_path_factory.mktemp("town")
    write_town(root)
    return root


@pytest.fixture(scope="session")
def town_rows(town: Path) -> Embeddings:
    """Its index."""
    return town_index(town)


@pytest.fixture
def client(town: Path, town_rows: Embeddings) -> Iterator[TestClient]:
    """Asks its search page, without a network."""
    with TestClient(town_app(town, town_rows), base_url=LOCAL, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="session")
def page_url(town: Path, town_rows: Embeddings) -> Iterator[str]:
    """The address of its search page on a live server."""
    with served(town_app(town, town_rows)) as address:
        yield address
