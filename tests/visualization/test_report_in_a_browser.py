"""The page in a browser: how it sorts, copies, and fits the screens that it is read on."""

import json
import re
import shlex

import pytest

from tests.visualization.chromium import NAMES, Chromium, find_chromium
from tests.visualization.report_files import COMMAND, EVIL, run

SORTED = [
    (["10", "9", "", "-1.5", "1e-7"], True, False, [3, 4, 1, 0, 2]),
    (["10", "9", "", "-1.5", "1e-7"], True, True, [0, 1, 4, 3, 2]),
    (["", "1", "", "0"], True, True, [1, 3, 0, 2]),
    (["b10", "b9", "", "a"], False, False, [3, 1, 0, 2]),
    (["x", "y", "x"], False, True, [1, 0, 2]),
    ([], True, False, []),
]
"""Keys of rows, whether they are numbers, whether descending, and the order of rows that this gives."""


NARROW, WIDE = 390, 1280


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    executable = find_chromium()
    if executable is None:
        pytest.skip(f"no Chromium: neither $CHROMIUM nor any of {', '.join(NAMES)} on the PATH")
    with Chromium(executable, tmp_path_factory.mktemp("profile")) as chromium:
        yield chromium


ROWS = "[...document.querySelector('.sortable').tBodies[0].rows].map((row) => row.cells[0].textContent)"
SORTS = "[...document.querySelectorAll('.sortable th[aria-sort]')].map((th) => [th.innerText.trim(), th.ariaSort])"


def heading(name):
    """A button of the first table, or of another that has no such column before it."""
    return f"[...document.querySelectorAll('.sortable thead button')].find((button) => button.textContent === '{name}')"


def test_the_page_in_a_browser(browser, report_page):
    browser.open(report_page)
    assert browser.evaluate(ROWS) == ["b10", EVIL]
    browser.click(heading("NLL"))
    assert browser.evaluate(ROWS) == [EVIL, "b10"]  # 9.5, 10
    assert browser.evaluate(SORTS) == [["NLL", "ascending"]]
    browser.click(heading("NLL"))
    assert browser.evaluate(ROWS) == ["b10", EVIL]
    assert browser.evaluate(SORTS) == [["NLL", "descending"]]
    browser.evaluate(f"{heading('Trial')}.focus()")
    browser.press("Enter", 13, "\r")
    assert browser.evaluate(ROWS) == [EVIL, "b10"]
    browser.press(" ", 32, " ")
    assert browser.evaluate(ROWS) == ["b10", EVIL]
    assert browser.evaluate(SORTS) == [["Trial", "descending"]]
    browser.click("document.querySelector('[data-copies]')")
    assert browser.evaluate("getSelection().toString()") == shlex.join(COMMAND)
    assert browser.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert browser.complaints() == []
    assert [url for url in browser.requests() if not re.match("data:", url)] == [report_page.as_uri()]


def test_the_order_that_the_script_sorts_rows_in(browser, report_page):
    browser.open(report_page)
    found = browser.evaluate(f"{json.dumps(SORTED)}.map((given) => sortedOrder(...given.slice(0, 3)))")
    assert found == [expected for *_, expected in SORTED]


@pytest.fixture
def screen(browser):
    """Sets the width of the screen, in CSS pixels."""

    def show(width):
        mobile = width < 500
        browser.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=mobile)

    yield show
    browser.call("Emulation.clearDeviceMetricsOverride")


def right_of(column):
    return f"{heading(column)}.closest('th').getBoundingClientRect().right"


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_results_are_seen_without_scrolling(browser, report_page, screen, width):
    screen(width)
    browser.open(report_page)
    for column in ("NLL", "Score"):
        assert browser.evaluate(right_of(column)) <= width
    if width == WIDE:
        assert browser.evaluate(right_of("Length (tokens)")) < browser.evaluate(right_of("Settings"))


def test_no_flag_is_broken_after_its_dashes(browser, report_page, screen):
    screen(NARROW)
    browser.open(report_page)
    lines = "[...document.querySelectorAll('.command span, thead code')].map((word) => word.getClientRects().length)"
    assert set(browser.evaluate(lines)) == {1}


def test_pictures_of_several_panels_stay_legible_on_a_telephone(browser, tmp_path, screen, task_dirs):
    with pytest.MonkeyPatch.context() as patch:
        run(patch, *task_dirs, "--out", tmp_path / "page.html")
    screen(NARROW)
    browser.open(tmp_path / "page.html")
    widths = browser.evaluate("[...document.images].map((image) => [image.className, image.width])")
    assert {kind for kind, _ in widths} == {"", "broad"}
    assert all(width > 600 if kind else width <= NARROW for kind, width in widths)
    assert browser.evaluate("document.documentElement.scrollWidth") == NARROW


def test_the_page_fits_a_telephone_and_opens_all_for_print(browser, report_page, screen):
    screen(360)
    browser.open(report_page)
    assert browser.evaluate("document.documentElement.scrollWidth") == 360
    assert browser.evaluate("document.querySelectorAll('details:not([open])').length") > 0
    browser.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert browser.evaluate("document.querySelectorAll('details:not([open])').length") == 0


def test_a_browser_error_would_be_seen(browser, tmp_path):
    page = tmp_path / "broken.html"
    page.write_text("<script>missing()</script><script>console.error('x')</script>")
    browser.open(page)
    assert len(browser.complaints()) == 2
