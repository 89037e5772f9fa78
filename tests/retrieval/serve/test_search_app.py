"""What the search page's server answers: hits, pictures, and errors as sentences."""

import html
import json
import os
import re
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from retrieval.data.gldv2 import Gldv2
from retrieval.data.images import open_bytes, read_image
from retrieval.data.landmarks import IndexLandmarks
from retrieval.embeddings import Embeddings, squared_norms
from retrieval.exact import search
from retrieval.serve.app import NO_PICTURE, create_app
from retrieval.serve.finder import Finder
from retrieval.serve.guard import HEADERS
from retrieval.serve.pictures import LARGE, SMALL, Pictures, example_pictures, index_pictures
from retrieval.store import Selection
from tests.retrieval.data.tars import as_tars
from tests.retrieval.serve.conftest import LOCAL
from tests.retrieval.serve.small_town import (
    HOSTILE,
    IMAGES_EACH,
    NAMES,
    Colours,
    as_file,
    image_id,
    picture,
    town_app,
    town_finder,
)
from zoo.errors import DataError

HTML = {"Accept": "text/html"}


def file_of(town, number: int) -> bytes:
    return Gldv2(town).image_path("index", image_id("index", number)).read_bytes()


def test_an_image_of_the_index_finds_itself_first_and_then_its_landmark(client, town, town_rows):
    found = client.post("/search", content=file_of(town, 5)).json()
    first, *others = found["hits"]
    assert (first["rank"], first["row"], first["id"]) == (1, 5, image_id("index", 5))
    assert (first["landmark_id"], first["landmark"]) == (1, NAMES[1])
    assert first["image"] == "/images/5"
    assert first["similarity"] == pytest.approx(1, abs=1e-6)
    assert first["distance"] == pytest.approx(0, abs=1e-6)
    assert [hit["landmark_id"] for hit in others[: IMAGES_EACH - 1]] == [1] * (IMAGES_EACH - 1)
    assert (found["width"], found["height"]) == (160, 120)
    assert len(found["hits"]) == len(town_rows.ids)


def test_hits_are_those_of_the_search(client, town, town_rows):
    query = town_rows.descriptors[7:8]
    expected = search(town_rows, Embeddings(("q",), query, town_rows.source), 6)
    hits = client.post("/search?k=6", content=file_of(town, 7)).json()["hits"]
    assert [hit["row"] for hit in hits] == expected.rows[0].tolist()
    np.testing.assert_allclose([hit["distance"] for hit in hits], expected.distances[0], rtol=0, atol=1e-6)
    cosines = town_rows.descriptors[expected.rows[0]] @ query[0]
    np.testing.assert_allclose([hit["similarity"] for hit in hits], cosines, rtol=0, atol=1e-6)


def test_similarities_of_rows_that_have_no_unit_norm():
    rows = np.array([[3, 0, 0], [0.5, 0.5, 0], [0, -2, 0]], np.float32)
    finder = Finder(Fixed([1, 0, 0]), Embeddings(("a", "b", "c"), rows, {}), IndexLandmarks({}, {}))
    hits = finder(np.zeros((4, 4, 3), np.uint8)).hits
    assert [hit.id for hit in hits] == ["b", "a", "c"]
    assert [hit.similarity for hit in hits] == pytest.approx([np.sqrt(0.5), 1, 0])
    assert [hit.distance for hit in hits] == pytest.approx([np.sqrt(0.5), 2, np.sqrt(5)])


def test_a_form_and_a_plain_body_find_the_same(client, town):
    data = file_of(town, 2)
    plain = client.post("/search", content=data, headers={"Content-Type": "application/x-www-form-urlencoded"}).json()
    form = client.post("/search", files={"photograph": ("../../etc/passwd", data, "text/plain")}).json()
    assert plain["hits"] == form["hits"]


def test_an_example_is_searched_for(client, town):
    found = client.post("/search?example=1").json()
    assert [hit["landmark"] for hit in found["hits"][:IMAGES_EACH]] == [NAMES[1]] * IMAGES_EACH
    assert client.post("/search?example=99").status_code == 404


def test_ignored_queries_and_missing_ones_are_no_examples(town, tmp_path):
    assert len(example_pictures(Gldv2(town))) == len(NAMES) - 1
    copy = tmp_path / "town"
    shutil.copytree(town, copy)
    Gldv2(copy).image_path("test", image_id("test", 0)).unlink()
    assert len(example_pictures(Gldv2(copy))) == len(NAMES) - 2


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_every_format_of_the_contest_is_read(client, kind):
    found = client.post("/search", content=as_file(picture(0, 1), kind)).json()
    assert found["hits"][0]["landmark"] == NAMES[0]


def test_a_photograph_is_turned_as_a_phone_stored_it(client, town):
    upright = read_image(Gldv2(town).image_path("index", image_id("index", 9)))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn right
    stored = np.ascontiguousarray(np.rot90(upright))
    found = client.post("/search", content=as_file(stored, "PNG", exif=exif)).json()
    assert (found["width"], found["height"]) == (160, 120)
    assert found["hits"][0]["distance"] == pytest.approx(0, abs=1e-6)
    assert client.post("/search", content=as_file(stored)).json()["hits"][0]["distance"] > 0.01


def test_searches_at_the_same_time_call_the_model_one_by_one(town, town_rows):
    model = Colours()
    model.seconds = 0.03
    finder = Finder(model, town_rows, IndexLandmarks({}, {}))
    images = [read_image(Gldv2(town).image_path("index", name)) for name in town_rows.ids[:8]]
    with ThreadPoolExecutor(4) as pool:
        assert [found.hits[0].row for found in pool.map(finder, images)] == list(range(8))


# --- the page


def test_the_form_works_without_script(client, town):
    answer = client.post("/search", files={"photograph": ("a.jpg", file_of(town, 8), "image/jpeg")}, headers=HTML)
    assert answer.status_code == 200
    assert html.escape(NAMES[0]) in answer.text
    assert 'src="data:image/jpeg;base64,' in answer.text
    assert answer.text.count('<li class="card hit">') == 16
    assert client.get("/search", follow_redirects=False).headers["location"] == "/"


def test_names_are_text_and_not_html(client, town):
    answer = client.post("/search", content=file_of(town, 8), headers=HTML).text
    assert HOSTILE not in answer
    assert "<img src=x" not in answer
    assert "&lt;/script&gt;&lt;img src=x" in answer and "🏛" in answer


def test_without_a_data_set_ids_are_shown(town, town_rows):
    finder = Finder(Colours(), town_rows, IndexLandmarks({}, {}))
    client = TestClient(create_app(finder), base_url=LOCAL)
    hit = client.post("/search", content=file_of(town, 3)).json()["hits"][0]
    assert (hit["id"], hit["image"], hit["landmark"], hit["landmark_id"]) == (image_id("index", 3), None, None, None)
    page = client.post("/search", content=file_of(town, 3), headers=HTML).text
    assert image_id("index", 3) in page and "/images/" not in page and "/examples/" not in page
    assert client.get("/images/3").status_code == 404


def test_the_page_loads_only_from_its_own_server(client):
    page = client.get("/").text
    loaded = re.findall(r'(?:src|href|action)="([^"]*)"', page)
    assert loaded and all(address.startswith("/") or address == "data:," for address in loaded)
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=", page)
    for name in ("page.css", "page.js"):
        assert "http" not in client.get(f"/{name}").text


def test_health(client):
    assert client.get("/health").json() == {"status": "ok", "images": 16, "dimensions": 48, "model": "colours"}


@pytest.mark.parametrize(
    "path", ["/", "/page.js", "/images/0", "/images/77", "/nothing", "/docs", "/openapi.json", "/health"]
)
def test_every_answer_has_the_policy_and_no_cookie(client, path):
    answer = client.get(path)
    assert all(answer.headers[name] == value for name, value in HEADERS.items())
    assert "set-cookie" not in answer.headers
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert "default-src 'none'" in answer.headers["content-security-policy"]


# --- pictures


def test_a_picture_is_small_and_comes_once(client):
    answer = client.get("/images/5")
    assert answer.headers["content-type"] == "image/jpeg"
    tag = answer.headers["etag"]
    again = client.get("/images/5", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get("/images/6").headers["etag"] != tag != client.get("/images/5?large=true").headers["etag"]


@pytest.mark.parametrize("side", [SMALL, LARGE])
@pytest.mark.parametrize("shape", [(2000, 3000, 3), (1500, 30, 3), (8, 9, 3)])
def test_pictures_keep_their_shape_and_a_limit(tmp_path, side, shape):
    (tmp_path / "index" / "a" / "a" / "a").mkdir(parents=True)
    name = "a" * 16
    Gldv2(tmp_path).image_path("index", name).write_bytes(as_file(np.zeros(shape, np.uint8), "JPEG"))
    made = index_pictures(Gldv2(tmp_path), "index", [name]).picture(0, side)
    with open_bytes(made, "made") as image:
        width, height = image.size
    scale = min(1, side / max(shape[:2]))
    assert (width, height) == pytest.approx((shape[1] * scale, shape[0] * scale), abs=1)


@pytest.fixture
def own_town(town, tmp_path):
    """A copy that a test may change."""
    copy = tmp_path / "town"
    shutil.copytree(town, copy)
    return copy


def test_a_missing_or_damaged_image_is_a_placeholder(own_town, town_rows):
    paths = [Gldv2(own_town).image_path("index", image_id("index", number)) for number in range(3)]
    paths[0].unlink()
    paths[1].write_bytes(b"no image")
    paths[2].write_bytes(paths[2].read_bytes()[:600])
    client = TestClient(town_app(own_town, town_rows), base_url=LOCAL)
    for number in range(3):
        answer = client.get(f"/images/{number}")
        assert (answer.status_code, answer.text) == (200, NO_PICTURE), number
        assert answer.headers["content-type"] == "image/svg+xml"
        assert answer.headers["cache-control"] == "no-store"  # it may come back
    assert client.get("/images/3").headers["content-type"] == "image/jpeg"


def test_a_picture_is_turned_as_its_photograph_says(tmp_path):
    path = Gldv2(tmp_path).image_path("index", "a" * 16)
    path.parent.mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    path.write_bytes(as_file(np.zeros((30, 60, 3), np.uint8), "JPEG", exif=exif))
    with open_bytes(index_pictures(Gldv2(tmp_path), "index", ["a" * 16]).picture(0), "made") as image:
        assert image.size == (30, 60)
        assert not image.getexif()


@pytest.mark.parametrize("address", ["/images/0", "/images/0?large=true"])
def test_a_changed_image_is_sent_again(own_town, town_rows, address):
    client = TestClient(town_app(own_town, town_rows), base_url=LOCAL)
    before = client.get(address)
    path = Gldv2(own_town).image_path("index", image_id("index", 0))
    path.write_bytes(as_file(picture(3, 3), "JPEG"))
    os.utime(path, ns=(1, 1))
    after = client.get(address, headers={"If-None-Match": before.headers["etag"]})
    assert after.status_code == 200 and after.content != before.content


def test_images_in_tars(town, town_rows, tmp_path):
    client = TestClient(town_app(as_tars(town, tmp_path / "tars"), town_rows), base_url=LOCAL)
    assert client.get("/images/5").headers["content-type"] == "image/jpeg"


def test_another_data_set_is_refused(own_town):
    with pytest.raises(DataError, match="has none of the store's images"):
        index_pictures(Gldv2(own_town), "index", [f"{number:016x}" for number in range(500)])


# --- nothing outside the data set


@pytest.mark.parametrize(
    "row",
    [
        "-1",
        "16",
        "99999999999999999999",
        "9" * 5000,
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "0%00",
        "0/../../x",
        "٣",
        "0x1",
    ],
)
@pytest.mark.parametrize("folder", ["images", "examples"])
def test_only_rows_of_the_index_have_pictures(client, folder, row):
    answer = client.get(f"/{folder}/{row}")
    assert answer.status_code in (404, 422), answer.text
    assert set(answer.json()) == {"error"}


@pytest.mark.parametrize(
    "path",
    [
        "/page.py",
        "/page.html.j2",
        "/../app.py",
        "/%2e%2e/app.py",
        "//etc/passwd",
        "/docs",
        "/redoc",
        "/openapi.json",
        "/page.css/../app.py",
    ],
)
def test_no_other_file_is_served(client, path):
    answer = client.get(path)
    assert answer.status_code == 404 and "import" not in answer.text


@pytest.mark.parametrize("name", ["../../secret", "/secret", "..", "A" * 16, "a" * 15, "a" * 17, "a" * 15 + "\n"])
def test_a_store_with_other_ids_reads_nothing(tmp_path, name):
    """An id becomes a part of a path, and a store may come from a stranger."""
    asked = []

    class Source:
        def read(self, image_id):
            asked.append(image_id)
            return as_file(picture(0, 0))

        place = size = changed = read

    pictures = Pictures(Source(), [name])
    assert pictures.tag(0, SMALL) is None
    for call in (pictures.picture, pictures.photograph):
        with pytest.raises(DataError, match="16 hexadecimal digits"):
            call(0)
    assert asked == []


# --- files that are no photographs


BROKEN = {
    "text": b"hello",
    "half a JPEG": as_file(picture(0, 0), "JPEG")[:700],
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
    "a PNG of 4 gigapixels": as_file(picture(0, 0))[:16]
    + b"\x00\x01\x00\x00\x00\x01\x00\x00"
    + as_file(picture(0, 0))[24:],
    "null bytes": bytes(5000),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_photograph_is_refused_in_words(client, name):
    answer = client.post("/search", content=BROKEN[name])
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("The file is not a usable photograph: ")
    page = client.post("/search", files={"photograph": ("a.jpg", BROKEN[name])}, headers=HTML)
    assert page.status_code == 422
    assert '<p class="card error" role="alert">The file is not a usable photograph: ' in page.text
    assert "retrieval.data.check" not in answer.text  # advice for a data set


NOTHING_CHOSEN = (
    b'--x\r\nContent-Disposition: form-data; name="photograph"; filename=""\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n\r\n--x--\r\n"
)
"""What a browser sends of an empty form."""


@pytest.mark.parametrize(
    ("status", "why", "request_"),
    [
        (400, "no photograph", {"content": b""}),
        (
            400,
            "no photograph",
            {"content": NOTHING_CHOSEN, "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
        ),
        (400, "no photograph", {"files": {"other": ("a.png", as_file(picture(0, 0)))}}),
        (400, "Too many files", {"files": [("photograph", ("a.png", b"a")), ("photograph", ("b.png", b"b"))]}),
        (400, "Too many fields", {"files": {"photograph": ("a.png", b"a")}, "data": {"more": "1"}}),
        (400, "form cannot be read", {"content": b"--x", "headers": {"Content-Type": "multipart/form-data"}}),
        (422, "k: ", {"content": b"a", "params": {"k": "0"}}),
        (422, "k: ", {"content": b"a", "params": {"k": "101"}}),
        (422, "k: ", {"content": b"a", "params": {"k": "9" * 5000}}),
        (422, "example: ", {"content": b"a", "params": {"example": "-1"}}),
    ],
)
def test_requests_that_make_no_sense(client, status, why, request_):
    answer = client.post("/search", **request_)
    assert (answer.status_code, set(answer.json())) == (status, {"error"})
    assert why in answer.json()["error"] and len(answer.text) < 500


def test_an_upload_is_kept_in_memory(client, monkeypatch):
    def rolled(*_):
        raise AssertionError("the upload was written to the disk")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", rolled)
    large = as_file(np.random.default_rng(0).integers(0, 256, (1200, 1200, 3), dtype=np.uint8), "BMP")
    assert len(large) > 4 << 20
    assert client.post("/search", files={"photograph": ("a.bmp", large)}).status_code == 200


@pytest.mark.parametrize(
    ("error", "why"),
    [(RuntimeError("secret path"), "unexpectedly"), (DataError("expected finite descriptors"), "finite")],
)
def test_a_failure_is_a_sentence(town, town_rows, error, why, monkeypatch):
    finder = town_finder(town, town_rows)
    monkeypatch.setattr(Finder, "__call__", lambda *_: (_ for _ in ()).throw(error))
    client = TestClient(create_app(finder), base_url=LOCAL, raise_server_exceptions=False)
    answer = client.post("/search", content=as_file(picture(0, 0)))
    assert answer.status_code == 500
    assert why in answer.json()["error"] and "secret" not in answer.text
    assert answer.headers["content-security-policy"] == HEADERS["Content-Security-Policy"]


# --- the model


class Fixed(Colours):
    """Describes every image by the same vector."""

    def __init__(self, vector: list[float]) -> None:
        super().__init__()
        self.vector, self.source = np.array([vector], np.float32), {}

    def __call__(self, batch):
        return self.vector


def test_another_model_is_refused(town_rows):
    model = Colours()
    model.source = model.source | {"checkpoint": "d" * 64}
    with pytest.raises(
        DataError, match=r"the store and the model are of different models: .*Serve the model that made the store"
    ):
        Finder(model, town_rows, IndexLandmarks({}, {}))


def test_a_model_with_other_descriptors_is_refused(town_rows):
    with pytest.raises(DataError, match="48-D descriptors and the model makes 3-D ones"):
        Finder(Fixed([1, 0, 0]), town_rows, IndexLandmarks({}, {}))


def test_images_that_could_not_be_read_are_not_found(town_rows):
    rows = town_rows.rows.astype(np.float16)
    norms = squared_norms(rows)
    rows[::2], norms[::2] = 0, np.inf
    stored = Selection(town_rows.ids, rows, norms, town_rows.source)
    finder = Finder(Colours(), stored, IndexLandmarks({}, {}))
    assert sorted(hit.row for hit in finder(picture(0, 0)).hits) == list(range(1, 16, 2))


def test_a_search_draws_no_progress_bar(client, town, monkeypatch, capsys):
    monkeypatch.setattr("retrieval.exact._DELAY", 0)
    assert client.post("/search", content=file_of(town, 0)).status_code == 200
    assert capsys.readouterr().err == ""


def test_answers_are_json_without_nan(client, town):
    text = client.post("/search", content=file_of(town, 0)).text
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name))
