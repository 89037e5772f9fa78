"""The report in a real Chromium: sorting, filtering, keys, enlarging, the map, a phone, dark mode, print, and no script."""

import base64
import copy
from pathlib import Path

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from retrieval.viewer.descriptor_map import ABSENT
from retrieval.viewer.report import HARDEST, Other, Report, write_report
from retrieval.viewer.results import Results
from tests.browser import complaints, set_size, wait
from tests.retrieval.viewer.small_reports import drawn_report, ranked, run

NASTY = "</script><img src=x onerror=alert(1)>'\"&amp; 🏰"
VIEWS = ("summary", "queries", "landmarks", "map", "training", "parity")


@pytest.fixture(scope="module")
def found() -> Results:
    return ranked(queries=60)


@pytest.fixture(scope="module")
def page(found, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, full(found))
    return path


def full(found: Results) -> Report:
    """A report with every part."""
    rng = np.random.default_rng(0)
    positions = rng.integers(0, 65535, (len(found.query_ids) + len(found.image_ids), 2)).astype(np.uint16)
    positions[-1] = ABSENT
    other = np.clip(found.precisions + rng.normal(0, 0.2, len(found.precisions)), 0, 1)
    return drawn_report(found, positions=positions, other=Other("other.csv", other), run=run())


def opened(
    browser: webdriver.Chrome, page: Path, view: str = "queries", width: int = 1280, *, dark: bool = False
) -> webdriver.Chrome:
    set_size(browser, width, 844 if width < 600 else 900, dark=dark)
    browser.get("about:blank")
    complaints(browser)
    browser.get(f"{page.as_uri()}#{view}")
    return browser


def rows(browser: webdriver.Chrome) -> list[int]:
    """Numbers of the queries in the list, from top to bottom."""
    script = "return [...document.querySelectorAll('#rows .row')].sort((a, b) => a.ariaPosInSet - b.ariaPosInSet).map(r => +r.dataset.query)"
    return browser.execute_script(script)


def press(browser: webdriver.Chrome, *keys: str) -> None:
    for key in keys:
        browser.switch_to.active_element.send_keys(key)


def choose(browser: webdriver.Chrome, name: str, value: str) -> None:
    script = "const e = document.getElementById(arguments[0]); e.value = arguments[1]; e.dispatchEvent(new Event(arguments[2]));"
    browser.execute_script(script, name, value, "input" if name == "find" else "change")


def text(browser: webdriver.Chrome, name: str) -> str:
    return browser.find_element(By.ID, name).text


def test_no_complaint_no_request_and_pictures_are_there(browser, page):
    opened(browser, page)
    for view in VIEWS:
        browser.execute_script("location.hash = arguments[0]", view)
        wait(browser, lambda b, view=view: b.find_element(By.CSS_SELECTOR, f".view.shown[data-view='{view}']"))
    browser.execute_script("location.hash = 'queries'")
    wait(browser, rows)
    assert complaints(browser) == []
    names = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert [name for name in names if not name.startswith("data:")] == []
    whole = "return [...document.images].every(i => i.complete && i.naturalWidth > 0)"
    wait(browser, lambda b: b.execute_script(whole))


def test_another_script_is_refused(browser, page, tmp_path):
    html = page.read_text(encoding="utf-8")
    changed = tmp_path / "changed.html"
    changed.write_text(html.replace("<body>", "<body><script>window.hostile = 1</script>"), encoding="utf-8")
    opened(browser, changed)
    assert browser.execute_script("return window.hostile") is None
    assert any("Content Security Policy" in line for line in complaints(browser))
    changed.write_text(html.replace("'use strict';", "'use strict'; window.hostile = 1;", 1), encoding="utf-8")
    opened(browser, changed)
    assert browser.execute_script("return window.hostile") is None


def test_only_rows_in_view_exist_and_scrolling_brings_the_others(browser, page, found):
    opened(browser, page)
    hardest = np.argsort(found.precisions, kind="stable")
    np.testing.assert_array_equal(found.precisions[rows(browser)], found.precisions[hardest[: len(rows(browser))]])
    assert 3 <= len(rows(browser)) < 15
    for _ in range(14):
        before = rows(browser)
        browser.execute_script("scrollBy(0, 1200)")
        wait(browser, lambda b, before=before: rows(b) != before or _at_the_end(b))
    wait(browser, lambda b: (last := rows(b)[-1:]) and found.precisions[last[0]] == found.precisions.max())
    assert _at_the_end(browser) and len(rows(browser)) < 15


def _at_the_end(browser: webdriver.Chrome) -> bool:
    return browser.execute_script("return scrollY + innerHeight >= document.documentElement.scrollHeight - 2")


@pytest.mark.parametrize("width", [390, 1280])
def test_a_row_fits_into_its_place(browser, page, width):
    opened(browser, page, width=width)
    assert rows(browser)
    assert browser.find_elements(By.CSS_SELECTOR, ".hit.missed")
    beyond = browser.execute_script(
        "return [...document.querySelectorAll('.row')].flatMap(r => [...r.querySelectorAll('*')].filter("
        "e => { const within = (e.closest('.about, .missing') ?? r).getBoundingClientRect(), box = e.getBoundingClientRect();"
        "return box.bottom > within.bottom + 1 || box.top < within.top - 1; }).map(e => e.className))"
    )
    assert beyond == []


@pytest.mark.parametrize("order", ["hard", "best", "landmark", "lost", "gained"])
def test_orders(browser, page, found, order):
    opened(browser, page)
    choose(browser, "order", order)
    other = full(found).other.precisions
    names = [found.landmarks[landmark] for landmark in found.query_landmarks]
    keys = {
        "hard": found.precisions,
        "best": -found.precisions,
        "landmark": np.argsort(np.argsort(names)) * 0 + [sorted(set(names)).index(name) for name in names],
        "lost": np.float32(found.precisions) - np.float32(other),
        "gained": np.float32(other) - np.float32(found.precisions),
    }[order]
    shown = rows(browser)
    np.testing.assert_allclose(keys[shown], np.sort(keys)[: len(shown)])


def test_a_row_says_what_was_found(browser, page, found):
    opened(browser, page)
    query = rows(browser)[0]
    row = browser.find_element(By.CSS_SELECTOR, f'.row[data-query="{query}"]')
    name = found.landmarks[found.query_landmarks[query]]
    words = row.text
    for part in (name, f"AP {found.precisions[query]:.3f}", f"{found.found[query]} of {found.relevant[query]} found"):
        assert part in words
    assert found.query_ids[query] in words
    labels = [button.get_attribute("aria-label") for button in row.find_elements(By.CSS_SELECTOR, ".hits button")]
    for place, label in enumerate(labels):
        landmark = found.image_landmarks[found.hits[query, place]]
        shown = found.landmarks[landmark] if landmark >= 0 else "no landmark"
        verdict = "right" if found.correct[query, place] else "wrong"
        figures = f"cosine {found.cosines[query, place]:.3f}, distance {found.distances[query, place]:.3f}"
        assert label == f"Hit {place + 1}, {verdict}: {shown}, {figures}".replace("-", "−")
    assert len(row.find_elements(By.CSS_SELECTOR, ".hit.missed")) == len(found.missed[query])


def test_filters(browser, page, found):
    opened(browser, page)
    own = set(np.flatnonzero(found.query_landmarks == found.query_landmarks[0]).tolist())
    name = found.landmarks[found.query_landmarks[0]]
    choose(browser, "find", name)
    mean = found.precisions[list(own)].mean()
    assert set(rows(browser)) <= own and text(browser, "count") == f"{len(own)} of 60 queries, mAP {mean:.3f}"
    choose(browser, "find", found.query_ids[7].upper())
    assert rows(browser) == [7]
    choose(browser, "find", "no such thing")
    assert rows(browser) == [] and browser.find_element(By.ID, "nothing").is_displayed()
    browser.find_element(By.ID, "clear-too").click()
    assert text(browser, "count") == f"60 queries, mAP {found.precisions.mean():.3f}" and len(rows(browser)) > 2


def test_confusions_and_landmarks_filter_the_queries(browser, page, found):
    opened(browser, page, "landmarks")
    first = browser.find_element(By.CSS_SELECTOR, "button[data-taken-for]")
    landmark, taken_for = int(first.get_attribute("data-landmark")), int(first.get_attribute("data-taken-for"))
    wrong = (found.image_landmarks[found.hits] == taken_for) & ~found.correct & (found.hits >= 0)
    expected = set(np.flatnonzero((found.query_landmarks == landmark) & wrong.any(axis=1)).tolist())
    first.click()
    wait(browser, lambda b: b.find_element(By.ID, "rows").is_displayed() and rows(b))
    assert set(rows(browser)) <= expected
    assert text(browser, "count").startswith(
        f"{len(expected)} of 60 queries with hits of {found.landmarks[taken_for]},"
    )
    browser.execute_script("location.hash = 'landmarks'")
    worst = browser.find_element(By.CSS_SELECTOR, "table.landmarks button")
    wait(browser, lambda _: worst.is_displayed())
    landmark = int(worst.get_attribute("data-landmark"))
    worst.click()
    wait(browser, lambda b: b.find_element(By.ID, "rows").is_displayed() and rows(b))
    assert set(found.query_landmarks[rows(browser)]) == {landmark}


def test_keys(browser, page, found):
    opened(browser, page)
    order = rows(browser)
    at = "return +document.activeElement.dataset.query"
    press(browser, "j")
    assert browser.execute_script(at) == order[0]
    press(browser, "j", "j", "k")
    assert browser.execute_script(at) == order[1]
    for _ in range(20):
        press(browser, "j")
    box = browser.execute_script(
        "const b = document.activeElement.getBoundingClientRect(); return [b.top, b.bottom, innerHeight]"
    )
    assert box[0] >= 0 and box[1] <= box[2] + 1, "the chosen row is not in view"
    outline = browser.execute_script("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"
    press(browser, Keys.ENTER)
    large = browser.find_element(By.ID, "large")
    assert large.get_attribute("open") and text(browser, "place").startswith("1 of ")
    press(browser, Keys.ARROW_RIGHT)
    assert text(browser, "place").startswith("2 of ")
    press(browser, Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert text(browser, "place").startswith("1 of ")
    press(browser, Keys.ESCAPE)
    assert not large.get_attribute("open")
    press(browser, "?")
    assert browser.find_element(By.ID, "keys").get_attribute("open")
    press(browser, Keys.ESCAPE, "/")
    assert browser.execute_script("return document.activeElement.id") == "find"
    press(browser, "j", Keys.ESCAPE)
    assert browser.find_element(By.ID, "find").get_attribute("value") == "j"
    assert browser.execute_script("return document.activeElement.id") != "find"


def test_pictures_are_whole_and_enlarged_beside_each_other(browser, page):
    opened(browser, page)
    browser.find_element(By.CSS_SELECTOR, ".hits button").click()
    boxes = browser.execute_script(
        "return [...document.querySelectorAll('#large .frame, .row .frame')].map(f => { const i = f.querySelector('img');"
        "return [getComputedStyle(i).objectFit, i.getBoundingClientRect().height <= f.getBoundingClientRect().height]; })"
    )
    assert boxes and all(box == ["contain", True] for box in boxes)
    widths = browser.execute_script(
        "return [...document.querySelectorAll('#large .frame')].map(f => f.getBoundingClientRect().width)"
    )
    assert len(widths) == 2 and min(widths) > 400


def test_a_link_leads_to_a_query(browser, page, found):
    last = int(np.argmax(found.precisions))
    opened(browser, page, f"query={found.query_ids[last]}")
    wait(browser, lambda b: b.execute_script("return document.activeElement.dataset.query") == str(last))


@pytest.mark.parametrize("address", ["%", "query=none", "keys", "no such place", ""])
def test_an_address_that_leads_nowhere_shows_the_summary(browser, page, address):
    opened(browser, page, address)
    assert browser.find_element(By.TAG_NAME, "h1").is_displayed()
    assert complaints(browser) == []


@pytest.mark.parametrize("dark", [False, True])
def test_the_map(browser, page, dark):
    opened(browser, page, "map", dark=dark)
    colours = (
        "const c = document.getElementById('canvas'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "const found = new Set(); for (let i = 0; i < d.length; i += 4) if (d[i + 3]) found.add(d[i] >> 5 << 10 | d[i + 1] >> 5 << 5 | d[i + 2] >> 5); return found.size"
    )
    assert browser.execute_script(colours) > 10
    press(browser, "j")
    assert len(browser.find_elements(By.CSS_SELECTOR, "#chosen .row")) == 1
    press(browser, Keys.ENTER)
    assert browser.find_element(By.ID, "large").get_attribute("open")
    press(browser, Keys.ESCAPE)
    canvas = browser.find_element(By.ID, "canvas")
    before = browser.execute_script("return arguments[0].toDataURL()", canvas)
    browser.find_element(By.ID, "closer").click()
    assert browser.execute_script("return arguments[0].toDataURL()", canvas) != before
    assert complaints(browser) == []


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("view", VIEWS)
def test_nothing_overflows(browser, page, view, width):
    opened(browser, page, view, width)
    assert browser.execute_script("return document.documentElement.scrollWidth") == width
    beyond = browser.execute_script(
        "return [...document.querySelectorAll('.view.shown *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1"
        " && !e.closest('.scroll, .hits, .missing, svg')).map(e => e.outerHTML.slice(0, 80))"
    )
    assert beyond == []


def test_dark_mode_has_a_dark_page_and_light_text(browser, page):
    brightness = "const rgb = t => t.match(/[0-9.]+/g).slice(0, 3).reduce((a, b) => a + +b, 0) / 765; const s = getComputedStyle(document.body); return [rgb(s.backgroundColor), rgb(s.color)]"
    opened(browser, page, dark=True)
    back, ink = browser.execute_script(brightness)
    assert back < 0.15 and ink > 0.8
    opened(browser, page)
    back, ink = browser.execute_script(brightness)
    assert back > 0.9 and ink < 0.2


def test_print_and_readers_without_script_get_the_plain_list(browser, page):
    opened(browser, page)
    try:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        assert len([e for e in browser.find_elements(By.CSS_SELECTOR, ".hardest > li") if e.is_displayed()]) == HARDEST
        assert not [
            e for e in browser.find_elements(By.CSS_SELECTOR, ".top, #rows, #map, dialog, .live") if e.is_displayed()
        ]
        assert browser.find_element(By.ID, "parity").is_displayed()
        assert len(base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {})["data"])) > 1000
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
        browser.get("about:blank")
        browser.get(page.as_uri())
        assert len([e for e in browser.find_elements(By.CSS_SELECTOR, ".hardest > li") if e.is_displayed()]) == HARDEST
        assert not [e for e in browser.find_elements(By.CSS_SELECTOR, "#rows, #map, .live, dialog") if e.is_displayed()]
        assert "need a browser with JavaScript" in browser.find_element(By.TAG_NAME, "body").text
        assert browser.find_element(By.ID, "parity").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_names_from_a_data_set_are_text(browser, tmp_path, found):
    hostile = copy.deepcopy(found)
    hostile.query_ids[:] = [f"{NASTY}{name}" for name in found.query_ids]
    hostile.image_ids[:] = [f"{NASTY}{name}" for name in found.image_ids]
    hostile.landmarks[:] = [f"{NASTY}{name}" for name in found.landmarks]
    report = full(hostile)
    write_report(tmp_path / "report.html", report)
    opened(browser, tmp_path / "report.html")
    assert NASTY in browser.find_element(By.CSS_SELECTOR, ".row b").text
    browser.find_element(By.CSS_SELECTOR, ".hits button").click()
    press(browser, Keys.ESCAPE)
    browser.execute_script("location.hash = 'landmarks'")
    wait(browser, lambda b: b.find_element(By.CSS_SELECTOR, "table.landmarks button").is_displayed())
    assert not browser.find_elements(By.CSS_SELECTOR, "img[src='x'], [onerror]")
    link = browser.find_element(By.CSS_SELECTOR, ".hardest .id").get_attribute("href")
    browser.get("about:blank")
    browser.get(link)
    wait(browser, lambda b: NASTY in (b.execute_script("return document.activeElement.ariaLabel") or ""))
    assert complaints(browser) == []


def test_a_ranking_without_anything_found_or_compared(browser, tmp_path):
    nothing = copy.deepcopy(ranked(queries=3))
    nothing.hits[:] = -1
    nothing.correct[:] = False
    nothing.precisions[:] = nothing.found[:] = nothing.first[:] = 0
    write_report(tmp_path / "report.html", drawn_report(nothing))
    opened(browser, tmp_path / "report.html")
    assert len(rows(browser)) == 3
    press(browser, "j", Keys.ENTER)
    assert browser.find_element(By.ID, "large").get_attribute("open")
    press(browser, Keys.ESCAPE)
    assert complaints(browser) == []
