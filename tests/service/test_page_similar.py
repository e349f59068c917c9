"""Attributes and similar garments on the page, tried in Chromium with a stand-in of the service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.devtools import Tab, browser
from tests.programs import needs_program
from tests.service.stand_in import ABOUT, DESCRIBED, KEY, Service
from tests.service.test_page import ON_ONE_LINE, drop, photo_file, rows

needs_chromium = needs_program("chromium")
ITEMS = f"[...document.querySelectorAll('.similar:not([hidden]) li')].map({ON_ONE_LINE})"


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    service.about_it = ABOUT | DESCRIBED
    yield service
    service.stop()


@pytest.fixture(scope="module")
def one_tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser(tmp_path_factory.mktemp("chromium") / "profile") as tab:
        yield tab


@pytest.fixture
def tab(one_tab: Tab) -> Iterator[Tab]:
    one_tab.requests.clear()
    one_tab.complaints.clear()
    yield one_tab
    one_tab.run("sessionStorage.clear()")


def drop_one(tab: Tab, folder: Path) -> None:
    drop(tab, photo_file(folder))
    tab.wait_for("document.querySelectorAll('.garments li').length")


@needs_chromium
def test_attributes_stand_under_each_garment_and_unsure_ones_say_so(service: Service, tab: Tab, tmp_path: Path) -> None:
    tab.open(service.start())
    drop_one(tab, tmp_path)
    assert rows(tab) == [
        "short sleeve top 0.93 neck v 0.93 · <i>hem</i> not sure",
        "dress 0.61 neck round 0.70 · <i>hem</i> curved 1.00",
    ]
    [asked] = service.asked
    assert (asked["attributes"], asked["embed"]) == (["true"], ["true"])
    assert "neck, <i>hem</i>" in tab.run("document.querySelector('#facts').innerText")
    assert "90 garments in 60 photos, by tiny" in tab.run("document.querySelector('#facts').innerText")
    assert "attributes=true" in tab.run("document.querySelector('#curl').textContent")
    assert '"attributes": True' in tab.run("document.querySelector('#python').textContent")
    assert tab.complaints == []


@needs_chromium
def test_a_chosen_garment_shows_what_is_like_it(service: Service, tab: Tab, tmp_path: Path) -> None:
    tab.open(service.start())
    drop_one(tab, tmp_path)
    assert tab.run("document.querySelector('.similar').hidden")
    tab.run("document.querySelectorAll('.garments button')[1].click()")
    tab.wait_for("document.querySelectorAll('.similar img').length === 2")
    assert tab.run("document.querySelector('.similar h4').textContent") == "Similar to dress 0.61"
    assert tab.run(ITEMS) == [
        "a <b>dress</b> 0.98 brand: ACME <3 neck: v",
        "a <b>dress</b> 0.88 brand: ACME <3 neck: v and 1 nearly the same",
        "a <b>dress</b> 0.78 brand: ACME <3 neck: v and 2 nearly the same",
    ]
    assert tab.run("[...document.querySelectorAll('.similar img')].map(one => [one.alt, one.naturalHeight])") == [
        ["a <b>dress</b> of shop/1.jpg", 90],
        ["a <b>dress</b> of shop/a b&c.jpg", 90],
    ]
    [search] = [asked for asked in service.asked if "vector" in asked]
    assert search == {"vector": [0.1, 0.5, 0.5, 0.5], "k": 6}
    tab.run("document.querySelectorAll('.garments button')[0].click()")
    tab.wait_for("document.querySelector('.similar p').textContent === 'The catalogue has no garment like it.'")
    assert tab.run(ITEMS) == []
    tab.run("document.querySelectorAll('.garments button')[0].click()")
    assert tab.run("document.querySelector('.similar').hidden")
    before = len(service.asked)
    tab.run("document.querySelectorAll('.garments button')[1].click()")
    tab.wait_for("document.querySelectorAll('.similar li').length === 3")
    assert len(service.asked) == before  # what was answered is not asked again
    assert [line for line in tab.complaints if "status of 404" not in line] == []


@needs_chromium
def test_a_search_that_fails_says_why_and_a_busy_service_is_asked_again(
    service: Service, tab: Tab, tmp_path: Path
) -> None:
    tab.open(service.start())
    drop_one(tab, tmp_path)
    service.refuse = 2
    choose = "document.querySelectorAll('.garments button')[1].click()"
    tab.run(choose)
    said = "document.querySelector('.similar p').textContent"
    tab.wait_for(f"{said} === 'Service Unavailable. The queue is full.'")
    service.refuse = 1
    tab.run(choose)
    tab.run(choose)
    tab.wait_for("document.querySelectorAll('.similar li').length === 3")
    assert tab.run("document.querySelector('.similar p').hidden")


@needs_chromium
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1200])
def test_everyone_can_use_it(service: Service, tab: Tab, tmp_path: Path, width: int, dark: bool) -> None:
    """With keys, which pictures need too, and by keyboard alone."""
    service.key = KEY
    address = service.start()
    tab.open(address, width=width, dark=dark, touch=width < 400)
    tab.wait_for("!document.querySelector('#key').hidden")
    tab.run(f"document.querySelector('#key-field').value = '{KEY}'; document.querySelector('#key-form button').click()")
    tab.wait_for("!document.querySelector('#about').hidden")
    drop_one(tab, tmp_path)
    tab.run("document.querySelectorAll('.garments button')[1].focus()")
    tab.press("Enter", 13)
    tab.wait_for("document.querySelectorAll('.similar img').length === 2")
    assert tab.axe() == []
    assert tab.run("document.scrollingElement.scrollWidth") <= width
    assert tab.run("document.querySelector('#status').textContent") == "3 similar garments"
    tab.screenshot(tmp_path / "page.png")
    tab.press("Escape", 27)
    tab.wait_for("document.querySelector('.similar').hidden")
    assert {request.split("/v1")[0].rstrip("/") for request in tab.requests if request.startswith("http")} == {
        address.rstrip("/")
    }


@needs_chromium
def test_a_service_without_models_is_asked_as_before(service: Service, tab: Tab, tmp_path: Path) -> None:
    service.about_it = ABOUT
    tab.open(service.start())
    drop_one(tab, tmp_path)
    tab.run("document.querySelector('.garments button').click()")
    assert tab.run("document.querySelector('.similar').hidden")
    assert service.asked == [{"names": ["photo.png"], "masks": ["rle"], "confidence": ["0.05"]}]
    assert not tab.run("document.querySelectorAll('.garments .attributes').length")
