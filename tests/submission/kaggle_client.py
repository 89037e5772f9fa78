"""What Kaggle's real client would upload, found out without a network: `test_kaggle_client` runs this in a process of its own.

    python kaggle_client.py < CALLS.json > ANSWERS.json

CALLS is a list of ["create" or "version", folder]; for each the answer says either what the client would have sent or how it
refused. Importing the client authenticates, so it gets a made-up key and an empty home folder. Three of its methods are replaced:
the one that asks whether the data set exists already, the one that sends a file, and the one that connects to Kaggle.
"""

import contextlib
import json
import os
import socket
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

CONNECTIONS: list[str] = []
"""Addresses that anything tried to connect to."""


def _refuse(*address: object, **_: object) -> NoReturn:
    CONNECTIONS.append(repr(address))
    raise OSError("this test has no network")


def _offline_api(user: str) -> Any:
    from kaggle.api.kaggle_api_extended import KaggleApi
    from kagglesdk.datasets.types.dataset_api_service import ApiCreateDatasetResponse
    from requests.exceptions import HTTPError

    class OfflineApi(KaggleApi):
        """The client, but for what needs Kaggle. `files` are the names it sent, `request` is the last request."""

        def __init__(self) -> None:
            super().__init__()
            self.config_values = {self.CONFIG_NAME_USER: user}
            self.files: dict[str, str] = {}
            self.request: Any = None

        def dataset_status(self, dataset: str) -> NoReturn:
            raise HTTPError("404: there is no such data set yet")

        def _upload_blob(self, path: str, *_: Any, **__: Any) -> str:
            token = f"token of {Path(path).name}"
            self.files[token] = Path(path).name
            return token

        def _answer(self, request: Any) -> Any:
            self.request = request
            response = ApiCreateDatasetResponse()
            response.status, response.error = "ok", ""
            return response

        def build_kaggle_client(self) -> Any:
            names = ("create_dataset", "create_dataset_version", "create_dataset_version_by_id")
            datasets = SimpleNamespace(**dict.fromkeys(names, self._answer))
            return contextlib.nullcontext(SimpleNamespace(datasets=SimpleNamespace(dataset_api_client=datasets)))

    return OfflineApi()


def _answer(call: str, folder: str) -> dict[str, Any]:
    api = _offline_api("someone")
    try:
        if call == "create":
            response = api.dataset_create_new(folder, quiet=True)
        else:
            response = api.dataset_create_version(folder, "a better model", quiet=True)
    except Exception as error:  # the client raises ValueError on purpose, and KeyError, TypeError and others otherwise
        return {"refused": f"{type(error).__name__}: {error}"}
    request = api.request
    sent = request if call == "create" else request.body
    found = {"status": response.status, "subtitle": sent.subtitle, "description": sent.description}
    found["files"] = {api.files[file.token]: file.description for file in sent.files}
    if call == "create":
        names = {"owner": request.owner_slug, "slug": request.slug, "title": request.title}
        return found | names | {"licence": request.license_name, "private": request.is_private}
    names = {"owner": "owner_slug", "slug": "dataset_slug"}  # a request by id_no has neither
    return found | {key: getattr(request, name, None) for key, name in names.items()} | {"notes": sent.version_notes}


def main() -> None:
    """Answers every call."""
    calls = json.load(sys.stdin)
    socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = _refuse
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"HOME": home, "KAGGLE_CONFIG_DIR": home, "KAGGLE_USERNAME": "someone", "KAGGLE_KEY": "0" * 32}
        answers = [_answer(*call) for call in calls]
    json.dump({"answers": answers, "connections": CONNECTIONS}, sys.stdout)


if __name__ == "__main__":
    main()
