"""The search page in a real browser: every way to give a photograph, the answer, enlarging, a phone, the dark."""

import base64
import shutil
import time
from threading import Event

import pytest
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from retrieval.data.gldv2 import Gldv2
from retrieval.embeddings import Embeddings
from retrieval.serve.app import create_app
from retrieval.serve.finder import Finder
from tests.browser import complaints, set_size, wait
from tests.retrieval.serve.small_town import HOSTILE, NAMES, as_file, image_id, picture, served, town_app, town_finder

DROP = """
const [kind, data] = arguments;
const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
const given = new DataTransfer();
given.items.add(new File([bytes], "photograph.png", { type: "image/png" }));
const target = document.querySelector("main");
if (kind === "paste") target.dispatchEvent(new ClipboardEvent("paste", { clipboardData: given, bubbles: true }));
else for (const type of ["dragover", "drop"])
  target.dispatchEvent(new DragEvent(type, { dataTransfer: given, bubbles: true, cancelable: true }));
"""


@pytest.fixture
def chromium(browser):
    """The browser as if it had just been started."""
    browser.get("about:blank")
    set_size(browser, 1280, 900)
    complaints(browser)
    yield browser
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


@pytest.fixture
def page(chromium, page_url):
    """The page, freshly loaded."""
    chromium.get(page_url)
    return chromium


def shown(page) -> list[str]:
    """The names of the hits; none while it searches."""
    if page.find_elements(By.CSS_SELECTOR, ".busy"):
        return []
    return [name.text for name in page.find_elements(By.CSS_SELECTOR, ".hit .name")]


def names(page) -> list[str]:
    """The names of the hits, once there are some."""
    return wait(page, shown)


def choose(page, path) -> None:
    page.find_element(By.ID, "photograph").send_keys(str(path))


def press(page, *keys: str) -> None:
    """Presses keys wherever the focus is."""
    ActionChains(page).send_keys(*keys).perform()


def error(page) -> str:
    return wait(page, lambda p: p.find_element(By.CSS_SELECTOR, "#results [role=alert]").text)


@pytest.fixture
def gate(tmp_path):
    """A photograph of the second landmark."""
    path = tmp_path / "gate.png"
    path.write_bytes(as_file(picture(1, 50)))
    return path


def loaded(page, selector: str) -> bool:
    script = "return [...document.querySelectorAll(arguments[0])].every((i) => i.complete && i.naturalWidth > 0)"
    return page.execute_script(script, selector)


def test_a_chosen_file_is_searched_for(page, gate):
    choose(page, gate)
    assert names(page)[:4] == [NAMES[1]] * 4
    assert page.find_element(By.ID, "status").get_property("textContent") == "16 most similar images"
    first = page.find_element(By.CSS_SELECTOR, ".hit")
    assert 0.9 < float(first.find_element(By.CLASS_NAME, "similarity").text) <= 1
    assert image_id("index", 4)[:12] in first.text and "distance" in first.text
    wait(page, lambda p: loaded(p, "#query img") and loaded(p, ".hit:first-child img"))
    assert page.find_element(By.CSS_SELECTOR, ".landmarks li").text == f"{NAMES[1]} 4"
    assert page.current_url.endswith("/")  # it was not loaded again
    assert complaints(page) == []


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_a_dropped_or_pasted_file_is_searched_for(page, kind):
    page.execute_script(DROP, kind, base64.b64encode(as_file(picture(0, 50))).decode())
    assert names(page)[0] == NAMES[0]
    assert not page.find_elements(By.CSS_SELECTOR, ".dragging")
    assert complaints(page) == []


def test_the_drop_zone_shows_that_it_takes_the_file(page):
    page.execute_script("document.dispatchEvent(new DragEvent('dragover', {bubbles: true, cancelable: true}))")
    assert page.find_elements(By.CSS_SELECTOR, "body.dragging .drop")
    page.execute_script("document.dispatchEvent(new DragEvent('dragleave', {bubbles: true}))")
    assert not page.find_elements(By.CSS_SELECTOR, ".dragging")


def test_text_that_is_dropped_is_explained(page):
    page.execute_script(
        "const given = new DataTransfer(); given.setData('text/plain', 'http://elsewhere');"
        "document.dispatchEvent(new DragEvent('drop', {dataTransfer: given, bubbles: true, cancelable: true}))"
    )
    assert "Only a file can be dropped" in error(page)


def test_an_example_is_searched_for(page):
    wait(page, lambda p: loaded(p, "#examples img"))
    page.find_elements(By.CSS_SELECTOR, "#examples button")[1].click()
    assert names(page)[0] == NAMES[1]
    page.find_elements(By.CSS_SELECTOR, "#examples button")[0].click()
    wait(page, lambda p: shown(p)[:1] == [NAMES[0]])
    assert complaints(page) == []


def test_the_same_file_can_be_chosen_again(page, gate):
    for _ in range(2):
        choose(page, gate)
        assert names(page)
        page.execute_script("document.querySelector('.hits').remove()")
    choose(page, gate)
    assert names(page)


def test_names_are_shown_as_they_are(page, tmp_path):
    (tmp_path / "blue.png").write_bytes(as_file(picture(2, 50)))
    choose(page, tmp_path / "blue.png")
    assert names(page)[0] == HOSTILE
    page.find_element(By.CSS_SELECTOR, ".hit a").click()
    assert HOSTILE in page.find_element(By.ID, "enlarged-name").text
    assert complaints(page) == []


def test_hits_are_enlarged_beside_the_photograph(page, gate):
    choose(page, gate)
    hits = names(page)
    page.find_elements(By.CSS_SELECTOR, ".hit a")[1].click()
    dialog = page.find_element(By.ID, "enlarged")
    assert dialog.is_displayed()
    wait(page, lambda p: loaded(p, "#enlarged img"))
    caption = page.find_element(By.ID, "enlarged-name")
    assert caption.text.startswith(f"2. {hits[1]}, similarity ")
    dialog.send_keys(Keys.ARROW_RIGHT)
    assert caption.text.startswith("3. ")
    for _ in range(3):
        dialog.send_keys(Keys.ARROW_LEFT)
    assert caption.text.startswith("16. ")  # round the end
    dialog.find_element(By.CSS_SELECTOR, "[data-step='1']").click()
    assert caption.text.startswith("1. ")
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not dialog.is_displayed()
    # The browser tells of the closing in an event of its own, a moment later.
    wait(page, lambda p: p.switch_to.active_element == p.find_elements(By.CSS_SELECTOR, ".hit a")[0])
    assert complaints(page) == []


def test_everything_is_reached_by_the_keyboard(page, gate):
    press(page, Keys.TAB)
    assert page.switch_to.active_element.get_attribute("id") == "photograph"
    outline = "return getComputedStyle(document.querySelector('.drop')).outlineStyle"
    assert page.execute_script(outline) == "solid"
    press(page, Keys.TAB, Keys.ENTER)
    assert names(page)[0] == NAMES[0]
    press(page, Keys.TAB, Keys.TAB, Keys.TAB, Keys.ENTER)  # past the other examples
    assert page.find_element(By.ID, "enlarged").is_displayed()


def test_a_file_that_is_no_photograph_is_explained(page, tmp_path):
    (tmp_path / "notes.txt").write_text("no photograph", encoding="utf-8")
    choose(page, tmp_path / "notes.txt")
    assert error(page).startswith("The file is not a usable photograph")
    assert not page.find_elements(By.CSS_SELECTOR, ".hit")
    assert not page.find_elements(By.CSS_SELECTOR, ".busy")


def test_a_file_that_is_too_large_is_not_sent(page, tmp_path):
    with open(tmp_path / "large.png", "wb") as file:
        file.truncate(33 << 20)
    choose(page, tmp_path / "large.png")
    assert error(page) == "large.png has 33.0 MiB; at most 32 MiB are searched."
    assert complaints(page) == []


def test_a_server_that_was_stopped_is_explained(chromium, town, town_rows, gate):
    with served(create_app(town_finder(town, town_rows))) as address:
        chromium.get(address)
    choose(chromium, gate)
    assert "did not answer" in error(chromium)


def test_it_says_that_it_searches(chromium, town, town_rows, gate, monkeypatch):
    finder = town_finder(town, town_rows)
    go_on = Event()
    describe = finder._describe
    monkeypatch.setattr(finder, "_describe", lambda pixels: go_on.wait(20) and describe(pixels))
    with served(create_app(finder)) as address:
        chromium.get(address)
        choose(chromium, gate)
        wait(chromium, lambda p: p.find_element(By.ID, "status").text == "Searching …")
        assert chromium.find_element(By.ID, "results").get_attribute("aria-busy") == "true"
        go_on.set()
        assert names(chromium)
        assert chromium.find_element(By.ID, "results").get_attribute("aria-busy") != "true"


def test_the_latest_photograph_wins(page, gate, tmp_path, monkeypatch):
    """The answer to an earlier one, which took longer, does not replace it."""
    search, go_on, given = Finder.__call__, Event(), []

    def slow_at_first(*args):
        given.append(1)
        if len(given) == 1:
            go_on.wait(20)
        return search(*args)

    monkeypatch.setattr(Finder, "__call__", slow_at_first)
    choose(page, gate)
    wait(page, lambda _: given)
    page.find_elements(By.CSS_SELECTOR, "#examples button")[0].click()
    assert names(page)[0] == NAMES[0]
    go_on.set()
    time.sleep(0.5)
    assert names(page)[0] == NAMES[0]
    assert not page.find_elements(By.CSS_SELECTOR, "[role=alert]")


def test_without_images_the_ids_are_shown(chromium, town, town_rows: Embeddings, gate):
    with served(create_app(town_finder(town, town_rows))) as address:
        chromium.get(address)
        choose(chromium, gate)
        assert names(chromium)[0] == NAMES[1]
        assert not chromium.find_elements(By.CSS_SELECTOR, ".hit img")
        assert complaints(chromium) == []


def test_without_script_the_form_loads_the_answer(chromium, page_url, gate):
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    chromium.get(page_url)
    choose(chromium, gate)
    chromium.find_element(By.CSS_SELECTOR, "#upload button").click()
    assert names(chromium)[0] == NAMES[1]
    assert chromium.current_url.endswith("/search")
    chromium.find_elements(By.CSS_SELECTOR, "#examples button")[0].click()
    wait(chromium, lambda p: shown(p)[:1] == [NAMES[0]])


WIDER = "return document.documentElement.scrollWidth > document.documentElement.clientWidth"


@pytest.mark.parametrize("width", [320, 390, 700, 1280])
def test_nothing_is_wider_than_the_page(page, gate, width):
    set_size(page, width, 844)
    assert not page.execute_script(WIDER)
    choose(page, gate)
    names(page)
    assert not page.execute_script(WIDER)
    page.find_element(By.CSS_SELECTOR, ".hit a").click()
    dialog = page.find_element(By.ID, "enlarged").rect
    assert dialog["width"] <= width and dialog["height"] <= 844
    scrolls = "const dialog = document.getElementById('enlarged'); return dialog.scrollHeight > dialog.clientHeight"
    assert not page.execute_script(scrolls)


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_follows_the_colour_scheme(page, gate, dark):
    set_size(page, 1280, 900, dark=dark)
    choose(page, gate)
    names(page)
    for selector in ("body", ".note", ".lead", ".rank", ".landmarks li:first-child", ".with-script"):
        assert _contrast(page, selector) > 4.5, selector
    backdrop = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (_luminance(backdrop) < 0.2) == dark


def _contrast(page, selector: str) -> float:
    """WCAG's contrast of a text and the nearest background behind it."""
    text, behind = page.execute_script(
        """
        let element = document.querySelector(arguments[0]);
        const text = getComputedStyle(element).color;
        while (getComputedStyle(element).backgroundColor === "rgba(0, 0, 0, 0)") element = element.parentElement;
        return [text, getComputedStyle(element).backgroundColor];""",
        selector,
    )
    low, high = sorted((_luminance(text), _luminance(behind)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(value) / 255 for value in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_a_missing_image_is_shown_as_missing(chromium, town, town_rows, gate, tmp_path):
    copy = tmp_path / "town"
    shutil.copytree(town, copy)
    Gldv2(copy).image_path("index", image_id("index", 4)).unlink()
    with served(town_app(copy, town_rows)) as address:
        chromium.get(address)
        choose(chromium, gate)
        names(chromium)
        wait(chromium, lambda p: loaded(p, ".hit img"))
        assert complaints(chromium) == []
