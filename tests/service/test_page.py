"""The page: small, closed to everything elsewhere, and usable by everyone; tried in Chromium with a stand-in of the
service."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from seamline.service.page import page_and_csp
from tests.devtools import Tab, browser
from tests.programs import needs_program
from tests.service.running import running
from tests.service.stand_in import ABOUT, GREY, KEY, NAMES, Service, block, ring, slope, to_instance
from tests.untrained import Untrained

needs_chromium = needs_program("chromium")
ON_ONE_LINE = r"one => one.innerText.replace(/\s+/g, ' ')"


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
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


def photo_file(folder: Path, name: str = "photo.png", size: tuple[int, int] = (300, 200), **options: Any) -> Path:
    """A grey photo of width x height."""
    folder.mkdir(exist_ok=True)
    Image.new("RGB", size, GREY).save(folder / name, **options)
    return folder / name


def drop(tab: Tab, path: Path, kind: str = "image/png") -> None:
    """As a hand does it: over the page first, then let go."""
    data = base64.b64encode(path.read_bytes()).decode()
    tab.run(f"""(() => {{
      const bytes = Uint8Array.from(atob("{data}"), one => one.charCodeAt(0)), dataTransfer = new DataTransfer();
      dataTransfer.items.add(new File([bytes], {json.dumps(path.name)}, {{type: {json.dumps(kind)}}}));
      for (const name of ["dragover", "drop"])
        document.querySelector(".choose").dispatchEvent(
          new DragEvent(name, {{dataTransfer, bubbles: true, cancelable: true}}));
    }})()""")


def rows(tab: Tab) -> list[str]:
    """The garments that are listed for the first photo, with their scores."""
    found: list[str] = tab.run(f"[...document.querySelectorAll('.card:first-child .garments li')].map({ON_ONE_LINE})")
    return found


def pixels(tab: Tab) -> npt.NDArray[np.uint8]:
    """The first canvas, height x width x 3."""
    data, height, width = tab.run("""(() => {
      const canvas = document.querySelector(".card canvas"), {width, height} = canvas;
      const data = canvas.getContext("2d").getImageData(0, 0, width, height).data;
      let text = "";
      for (let at = 0; at < data.length; at += 8192) text += String.fromCharCode(...data.subarray(at, at + 8192));
      return [btoa(text), height, width];
    })()""")
    return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)[:, :, :3]


def set_threshold(tab: Tab, value: float) -> None:
    tab.run(
        f"(() => {{ const slider = document.querySelector('input[type=range]'); slider.value = {value}; "
        "slider.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )
    tab.wait_for(f"document.querySelector('output').textContent === '{value:.2f}'")


class Elements(HTMLParser):
    """Attributes of all elements of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(name, value or "") for name, value in attrs]


def test_one_small_file_that_asks_nothing_of_anybody_else() -> None:
    page, _ = page_and_csp()
    text = page.decode()
    attributes = Elements(text).attributes
    assert len(page) < 60_000
    assert re.findall(r"\w+://[^)\"'\s]*|@import|url\(", text) == []
    addresses = [value for name, value in attributes if name in ("src", "href", "action", "data", "srcset", "poster")]
    assert set(addresses) == {"data:,", "openapi.json"}
    assert not [name for name, _ in attributes if name.startswith("on") or name == "style"]
    # Names of files and of classes come from anybody: nothing takes a text for HTML or for code.
    assert not re.findall(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc|localStorage", text
    )


def test_the_policy_allows_this_style_and_this_script_alone() -> None:
    page, policy = page_and_csp()
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    for element in ("style", "script"):
        start = page.index(f"<{element}>".encode()) + len(element) + 2
        text = page[start : page.index(f"</{element}>".encode())]
        assert rules.pop(f"{element}-src") == f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'"
    assert rules == {
        "default-src": "'none'", "connect-src": "'self'", "img-src": "blob: data:", "form-action": "'none'",
        "base-uri": "'none'", "frame-ancestors": "'none'",
    }  # fmt: skip


@needs_chromium
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1200])
def test_everyone_can_use_it(service: Service, tab: Tab, tmp_path: Path, width: int, dark: bool) -> None:
    address = service.start()
    tab.open(address, width=width, dark=dark, touch=width < 400)
    tab.wait_for("!document.querySelector('#about').hidden")
    for state in ("empty", "with photos"):
        if state == "with photos":
            three_photos(tab, tmp_path)
        assert tab.axe() == [], state
        assert tab.run("document.scrollingElement.scrollWidth") <= width, state
        page = tab.run("getComputedStyle(document.body).backgroundColor")
        assert page == ("rgb(18, 22, 28)" if dark else "rgb(246, 247, 249)")
    service.key = KEY
    tab.open("about:blank")
    tab.open(address, width=width, dark=dark, touch=width < 400)
    tab.wait_for("!document.querySelector('#key').hidden")
    assert tab.axe() == []
    assert tab.run("document.scrollingElement.scrollWidth") <= width
    assert {request.split("/v1")[0].rstrip("/") for request in tab.requests} == {address.rstrip("/")}
    assert [line for line in tab.complaints if "status of 4" not in line] == []


def three_photos(tab: Tab, folder: Path) -> None:
    """One that is good, one with a long name, one that is none."""
    (folder / "broken.png").write_bytes(b"no photo")
    names = ["photo.png", "a-name-without-any-blank-" * 8 + ".png"]
    tab.choose_files("#files", [*(photo_file(folder, name) for name in names), folder / "broken.png"])
    tab.wait_for("document.querySelectorAll('.garments li').length === 4")
    tab.wait_for("document.querySelectorAll('.problem:not([hidden])').length === 1")


@needs_chromium
def test_a_dropped_photo_gets_its_outlines_where_the_garments_are(service: Service, tab: Tab, tmp_path: Path) -> None:
    tab.open(service.start())
    drop(tab, photo_file(tmp_path))
    tab.wait_for("document.querySelectorAll('.garments li').length")
    assert rows(tab) == ["short sleeve top 0.93", "dress 0.61"]  # 0.618 is not 0.62: it would be filtered at that
    assert service.asked == [{"names": ["photo.png"], "masks": ["rle"], "confidence": ["0.05"]}]
    assert tab.run("document.querySelector('.state').textContent") == "2 garments"
    assert "0.05 s of it in the service" in tab.run("document.querySelector('.time').textContent")
    assert "inference 41 ms" in tab.run("document.querySelector('.time').textContent")
    label = tab.run("document.querySelector('canvas').getAttribute('aria-label')")
    assert label == "photo.png: short sleeve top 0.93, dress 0.61"
    assert tab.complaints == []
    picture = pixels(tab)
    height, width = picture.shape[:2]
    assert abs(width / height - 1.5) < 0.01
    drawn = np.abs(picture.astype(int) - GREY).max(axis=2) > 4
    near = np.zeros((height, width), bool)
    fills = []
    for mask in (ring(200, 300), slope(200, 300)):
        large = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
        inner = cv2.erode(large, np.ones((9, 9), np.uint8)) > 0
        assert drawn[cv2.erode(large, np.ones((3, 3), np.uint8)) > 0].all()
        fills.append(np.median(picture[inner], axis=0))
        near |= cv2.dilate(large, np.ones((11, 11), np.uint8)) > 0
        rows_of, columns = np.nonzero(large)
        top, middle = int(rows_of.min()), int(columns.min() + columns.max()) // 2
        near[max(0, top - 24) : top + 4, max(0, middle - 100) : middle + 100] = True  # its name
    assert not drawn[~near].any()
    assert drawn.mean() > 0.1
    assert fills[0][0] > fills[0][2] and fills[1][0] < fills[1][2]  # one warm, one cold
    centre = picture[int(0.3 * height), int(0.3 * width)]
    assert tuple(centre) == GREY  # the hole


@needs_chromium
def test_masks_become_paths_pixel_by_pixel(service: Service, tab: Tab) -> None:
    tab.open(service.start())
    rng = np.random.default_rng(0)
    masks = [
        rng.random((height, width)) < share
        for height, width, share in [(9, 7, 0.5), (1, 6, 0.5), (6, 1, 0.5), (40, 30, 0.3), (25, 25, 0.9)]
    ]
    masks += [np.ones((5, 4), bool), np.zeros((3, 3), bool), np.eye(6, dtype=bool), block(50, 40), ring(700, 80)]
    for mask in masks:
        segmentation = to_instance(1, 1.0, mask)["segmentation"]
        got = tab.run(f"""(() => {{
          const context = document.createElement("canvas").getContext("2d"), got = [];
          const path = maskToPath({json.dumps(segmentation)});
          for (let y = 0; y < {mask.shape[0]}; y++)
            for (let x = 0; x < {mask.shape[1]}; x++) got.push(Number(context.isPointInPath(path, x + .5, y + .5)));
          return got.join("");
        }})()""")
        assert got == "".join(map(str, mask.astype(int).ravel()))


@needs_chromium
def test_a_photo_lies_as_its_camera_was_held(service: Service, tab: Tab, tmp_path: Path) -> None:
    tab.open(service.start())
    photo = Image.new("RGB", (300, 200), "blue")
    photo.paste("red", (0, 0, 100, 200))
    exif = Image.Exif()
    exif[0x0112] = 6  # its left side is up
    photo.save(tmp_path / "turned.jpg", exif=exif)
    tab.choose_files("#camera", [tmp_path / "turned.jpg"])
    tab.wait_for("document.querySelectorAll('.garments li').length")
    picture = pixels(tab)
    height, width = picture.shape[:2]
    assert abs(height / width - 1.5) < 0.01
    assert picture[5, width - 5, 0] > 200 and picture[5, width - 5, 2] < 60
    assert picture[height - 20, 5, 2] > 200 and picture[height - 20, 5, 0] < 60
    tab.run("document.querySelector('.garments button').focus()")
    dimmed = pixels(tab)[:, :, 2] < 180
    away = np.hypot(*(np.mgrid[:height, :width] - np.array([0.3 * height, 0.3 * width])[:, None, None])) / width
    assert dimmed[(away > 0.25) & (np.arange(height)[:, None] > height * 0.4)].all()
    assert not dimmed[(away < 0.18) & (away > 0.1) & (np.arange(height)[:, None] > height * 0.35)].any()


@needs_chromium
def test_threshold_and_classes_filter_without_asking_again(service: Service, tab: Tab, tmp_path: Path) -> None:
    tab.open(service.start())
    drop(tab, photo_file(tmp_path))
    tab.wait_for("document.querySelectorAll('.garments li').length")
    before = pixels(tab)
    set_threshold(tab, 0.05)
    assert rows(tab) == ["short sleeve top 0.93", "dress 0.61", "it's <b>2</b>; 1 0.12"]
    column = int(0.85 * before.shape[1])
    assert (before[-40:, column] == GREY).all() and (pixels(tab)[-40:, column] != GREY).any(axis=1).all()
    set_threshold(tab, 0.12)  # a score has to be above it
    assert len(rows(tab)) == 2
    set_threshold(tab, 0.95)
    assert tab.run("document.querySelector('.state').textContent") == "No garment"
    assert (pixels(tab) == GREY).all()
    set_threshold(tab, 0.05)
    buttons = "[...document.querySelectorAll('.classes button')]"
    names = tab.run(f"{buttons}.map({ON_ONE_LINE})")
    assert names == ["All", "dress 1", "short sleeve top 1", "it's <b>2</b>; 1 1"]
    tab.run(f"{buttons}[1].click()")
    assert rows(tab) == ["dress 0.61"]
    tab.run(f"{buttons}[3].click()")
    assert rows(tab) == ["dress 0.61", "it's <b>2</b>; 1 0.12"]
    assert tab.run(f"{buttons}.map(one => one.getAttribute('aria-pressed'))") == ["false", "true", "false", "true"]
    tab.run(f"{buttons}[0].click()")
    assert len(rows(tab)) == 3
    assert len(service.asked) == 1


@needs_chromium
def test_what_a_garment_is_pointed_at_stands_out(service: Service, tab: Tab, tmp_path: Path) -> None:
    tab.open(service.start())
    drop(tab, photo_file(tmp_path))
    tab.wait_for("document.querySelectorAll('.garments li').length")
    canvas = "document.querySelector('canvas').getBoundingClientRect()"
    box = tab.run(f"(box => [box.left, box.top, box.width, box.height])({canvas})")
    both = pixels(tab)
    point = {"x": box[0] + box[2] * 0.3, "y": box[1] + box[3] * 0.44}  # on the ring
    tab.command("Input.dispatchMouseEvent", type="mouseMoved", **point)
    tab.wait_for("document.querySelector('.garments button').classList.contains('lit')")
    lit = pixels(tab)
    assert lit[-3, 3, 0] < GREY[0] - 40  # all around is darker
    assert (lit[int(box[3] * 0.7), int(box[2] * 0.52)] == lit[-3, 3]).all()  # the other garment too
    tab.command("Input.dispatchMouseEvent", type="mousePressed", button="left", clickCount=1, **point)
    tab.command("Input.dispatchMouseEvent", type="mouseReleased", button="left", clickCount=1, **point)
    tab.command("Input.dispatchMouseEvent", type="mouseMoved", x=2, y=2)
    assert tab.run("document.querySelector('.garments button').getAttribute('aria-pressed')") == "true"
    assert (pixels(tab) == lit).all()
    tab.run("document.querySelector('.garments button').focus()")
    tab.press("Escape", 27)
    tab.run("document.activeElement.blur()")
    assert (pixels(tab) == both).all()


@needs_chromium
def test_errors_are_shown_in_the_service_s_words(service: Service, tab: Tab, tmp_path: Path) -> None:
    tab.open(service.start())
    name = "<img src=x onerror=document.title=1>.png"
    (tmp_path / name).write_bytes(b"no photo")
    (tmp_path / "film.mp4").write_bytes(b"a film")
    tab.choose_files("#files", [tmp_path / name, tmp_path / "film.mp4"])
    tab.wait_for("document.querySelector('.problem')?.hidden === false")
    assert tab.run("document.querySelector('.problem h4').textContent") == "Unprocessable Content"
    assert tab.run("document.querySelector('.problem p').textContent") == f"{name}: is not an image."
    assert tab.run("document.querySelector('.problem small').textContent") == "Request request-7"
    assert tab.run("document.querySelector('.card header h3').textContent") == name
    assert tab.run("document.title").startswith("Seamline")
    assert tab.run("document.querySelectorAll('main img').length") == 0
    assert tab.run("document.querySelector('#dropped').textContent") == "film.mp4 is not a photo (video/mp4)."
    assert len(service.asked) == 1
    service.stop()
    tab.run("document.querySelector('.problem button').click()")
    tab.wait_for("document.querySelector('.problem h4').textContent === 'There is no answer'")
    assert "cannot be reached" in tab.run("document.querySelector('.problem p').textContent")


@needs_chromium
def test_a_busy_service_is_asked_once_more_when_it_says(service: Service, tab: Tab, tmp_path: Path) -> None:
    tab.open(service.start())
    service.refuse = 1
    drop(tab, photo_file(tmp_path))
    tab.wait_for("document.querySelector('.state').textContent === 'The service is busy: once more in 1 s'")
    tab.wait_for("document.querySelectorAll('.garments li').length === 2")
    assert len(service.asked) == 2
    service.refuse = 2
    drop(tab, photo_file(tmp_path, "other.png"))
    tab.wait_for("document.querySelector('.problem').hidden === false")
    assert tab.run("document.querySelector('.problem p').textContent") == "The queue is full."
    assert len(service.asked) == 4
    tab.run("document.querySelector('.problem button').click()")
    tab.wait_for("document.querySelectorAll('.garments li').length === 4")
    assert tab.run("document.querySelector('.problem').hidden")


@needs_chromium
def test_a_key_is_asked_for_once_one_is_needed(service: Service, tab: Tab, tmp_path: Path) -> None:
    service.key = KEY
    tab.open(service.start())
    tab.wait_for("document.querySelector('#key').hidden === false")
    assert tab.run("document.querySelector('#key-said').textContent") == "This service asks for an API key."
    assert "Authorization" in tab.run("document.querySelector('#curl').textContent")
    drop(tab, photo_file(tmp_path))
    tab.wait_for("document.querySelector('.problem').hidden === false")
    for key in ("wrong-key", KEY):
        tab.run("document.querySelector('#key-said').textContent = ''")
        tab.run("document.querySelector('#key-field').focus()")
        tab.command("Input.insertText", text=key)
        tab.press("Enter", 13)
        if key != KEY:  # asked for again
            tab.wait_for("document.querySelector('#key-said').textContent && !document.querySelector('#key').hidden")
    tab.wait_for("document.querySelectorAll('.garments li').length === 2")
    tab.wait_for("document.querySelector('#about').hidden === false")
    assert tab.run("Object.values(sessionStorage)") == [KEY]
    assert tab.run("localStorage.length + document.cookie.length") == 0
    assert KEY not in tab.run("document.documentElement.outerHTML")
    tab.command("Page.reload")
    tab.wait_for("document.querySelector('#about')?.hidden === false")
    assert tab.run("document.querySelector('#key').hidden")


@needs_chromium
def test_everything_is_reached_by_keyboard(service: Service, tab: Tab, tmp_path: Path) -> None:
    tab.open(service.start())
    three_photos(tab, tmp_path)
    tab.run("""
      const usable = [...document.querySelectorAll("a, button, input, select, [tabindex]")];
      window.everything = usable.filter(one => one.checkVisibility());
      window.reached = new Set();
      addEventListener("focusin", event => {
        const style = getComputedStyle(event.target);
        if (style.outlineStyle !== "none") reached.add(event.target);
      });
      document.activeElement.blur();
    """)
    count = tab.run("everything.length")
    assert count > 20
    for _ in range(count + 5):
        tab.press("Tab", 9)
    assert tab.run("everything.filter(one => !reached.has(one)).map(one => one.outerHTML)") == []
    tab.run("document.querySelector('#threshold').focus()")
    tab.press("ArrowRight", 39)
    tab.wait_for("document.querySelector('output').textContent === '0.26'")
    tab.run("document.querySelector('.garments button').focus()")
    tab.press("Enter", 13)
    assert tab.run("document.activeElement.getAttribute('aria-pressed')") == "true"
    tab.run("document.querySelectorAll('.classes button')[1].focus()")
    tab.press("Enter", 13)
    assert rows(tab) == ["dress 0.61"]
    assert tab.run("document.activeElement.textContent").startswith("dress")  # where it was
    tab.run("document.querySelector('.remove').focus()")
    for left in (2, 1, 0):
        tab.press("Enter", 13)
        assert tab.run("document.querySelectorAll('.card').length") == left
    assert tab.run("document.activeElement.id") == "pick"


@needs_chromium
def test_of_many_photos_those_in_sight_are_drawn(service: Service, tab: Tab, tmp_path: Path) -> None:
    tab.open(service.start())
    tab.choose_files("#files", [photo_file(tmp_path, f"{number:02d}.png") for number in range(12)])
    tab.wait_for("document.querySelectorAll('.garments li').length === 24")
    names = tab.run("[...document.querySelectorAll('.card header h3')].map(title => title.textContent)")
    assert names == [f"{number:02d}.png" for number in range(12)]
    widths = "[...document.querySelectorAll('canvas')].map(canvas => canvas.width > 100)"
    tab.wait_for(f"{widths}.filter(Boolean).length < 6")
    assert tab.run(f"{widths}[0]")
    height = tab.run("document.scrollingElement.scrollHeight")
    tab.run("document.querySelector('.card:last-child canvas').scrollIntoView({block: 'center'})")
    tab.wait_for(f"{widths}[11] && !{widths}[0]")
    assert tab.run("document.scrollingElement.scrollHeight") == height
    assert {tuple(asked["names"]) for asked in service.asked} == {(name,) for name in names}


@needs_chromium
def test_a_photo_that_the_browser_cannot_draw_has_its_list(service: Service, tab: Tab, tmp_path: Path) -> None:
    tab.open(service.start())
    tab.choose_files("#files", [photo_file(tmp_path, "scan.tif")])
    tab.wait_for("document.querySelectorAll('.garments li').length === 2")
    assert "cannot show this photo" in tab.wait_for("document.querySelector('.note').textContent")
    assert pixels(tab)[:, :, 0].std() > 1  # its outlines all the same
    service.turns = True  # outlines would lie beside what is seen
    tab.choose_files("#files", [photo_file(tmp_path)])
    tab.wait_for("document.querySelectorAll('.garments li').length === 4")
    tab.wait_for("document.querySelector('.note').hidden === false")
    height, width, _ = pixels(tab).shape
    assert height > width and not (pixels(tab) == GREY).all(axis=2).any()


@needs_chromium
def test_a_photo_is_pasted(service: Service, tab: Tab, tmp_path: Path) -> None:
    tab.open(service.start())
    data = base64.b64encode(photo_file(tmp_path).read_bytes()).decode()
    tab.run(f"""(() => {{
      const clipboardData = new DataTransfer(), bytes = Uint8Array.from(atob("{data}"), one => one.charCodeAt(0));
      clipboardData.items.add(new File([bytes], "image.png", {{type: "image/png"}}));
      document.body.dispatchEvent(new ClipboardEvent("paste", {{clipboardData, bubbles: true, cancelable: true}}));
    }})()""")
    tab.wait_for("document.querySelectorAll('.garments li').length === 2")


@needs_chromium
def test_nothing_moves_for_those_who_ask_for_that(service: Service, tab: Tab, tmp_path: Path) -> None:
    tab.open(service.start())
    service.refuse = 1
    drop(tab, photo_file(tmp_path))
    tab.wait_for("document.getAnimations().length")
    tab.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
    assert tab.run("document.querySelectorAll('.working:not([hidden])').length && !document.getAnimations().length")


@needs_chromium
@pytest.mark.parametrize("tool", ["curl", "python"])
def test_the_calls_ask_what_the_page_shows(service: Service, tab: Tab, tmp_path: Path, tool: str) -> None:
    if tool == "curl" and shutil.which("curl") is None:
        pytest.skip("needs curl")
    service.key = KEY
    tab.open(service.start())
    tab.run(f"sessionStorage.setItem('seamline-key', '{KEY}')")
    drop(tab, photo_file(tmp_path, "photo.jpg"), "image/jpeg")
    tab.wait_for("document.querySelector('.problem').hidden === false")
    tab.command("Page.reload")
    tab.wait_for("document.querySelector('#about')?.hidden === false && !document.querySelector('.card')")
    drop(tab, photo_file(tmp_path, "photo.jpg"), "image/jpeg")
    tab.wait_for("document.querySelectorAll('.garments li').length === 2")
    set_threshold(tab, 0.1)
    for number in (2, 3):
        tab.run(f"document.querySelectorAll('.classes button')[{number}].click()")
    tab.run("document.querySelector('#masks').value = 'none'")
    tab.run("document.querySelector('#masks').dispatchEvent(new Event('change'))")
    call = tab.run(f"document.querySelector('#{tool}').textContent")
    shell = ["sh", "-c", call] if tool == "curl" else [sys.executable, "-c", call]
    environment = {**os.environ, "SEAMLINE_KEY": KEY, "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(shell, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    asked = {"names": ["photo.jpg"], "masks": ["none"], "confidence": [0.1], "classes": NAMES[1:]}
    last = service.asked[-1]
    assert {**last, "confidence": [float(value) for value in last["confidence"]]} == asked
    assert ("it's <b>2</b>; 1 0.12" if tool == "python" else '"image_id":1') in done.stdout
    copy = f"document.querySelector('[data-copies={tool}]')"
    tab.run(f"{copy}.click()")
    assert tab.wait_for(f"({copy}.textContent !== 'Copy') && {copy}.textContent") in ("Copied", "Selected")
    assert tab.run("getSelection().toString().trim()") == call.strip()


@needs_chromium
def test_facts_of_the_model_and_its_source(service: Service, tab: Tab) -> None:
    address = service.start()
    facts = "document.querySelector('#facts').innerText"
    tab.open(address)
    said = tab.wait_for(facts)
    for fact in (
        "openvino_int8",
        "0123456789ab",
        "INT8 (its gate: accepted)",
        "3 classes",
        *NAMES,
        "AGPL-3.0",
        "32 MB",
    ):
        assert fact in said
    link = "[...document.querySelectorAll('#facts a')].map(link => link.href)"
    assert tab.run(link) == [ABOUT["model"]["source"]]
    for source, shown in [("javascript:alert(1)", "javascript:alert(1)"), (None, "not named")]:
        service.about_it = {**ABOUT, "model": {**ABOUT["model"], "source": source}}
        tab.command("Page.reload")
        tab.wait_for(f"document.querySelector('#facts')?.innerText.includes({json.dumps(shown)})")
        assert tab.run(link) == []
    service.about_it = {}
    tab.command("Page.reload")
    assert tab.wait_for("document.querySelector('#no-about-title')?.textContent") == "Gateway Timeout"
    assert tab.run("document.querySelector('#no-about-detail').textContent") == "The answer took too long."


@needs_chromium
def test_the_service_itself_serves_it(untrained: Untrained, tab: Tab) -> None:
    """All that is listed is what the service answers to somebody else."""
    photo = untrained.images()[0]
    with running(untrained.exported / "openvino") as address:
        with urllib.request.urlopen(address) as answer:
            assert (answer.read(), answer.headers["Content-Security-Policy"]) == page_and_csp()
            assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        asked = urllib.request.Request(f"{address}/v1/predict?confidence=0.05", photo.read_bytes())
        asked.add_header("Content-Type", "image/jpeg")
        with urllib.request.urlopen(asked) as answer:
            found = json.load(answer)["images"][0]["instances"]
        assert found
        tab.open(address)
        tab.choose_files("#files", [photo])
        tab.wait_for("document.querySelector('.time')?.hidden === false")
        set_threshold(tab, 0.05)
        names = ["short sleeve top", "trousers"]
        scores = [float(row.split()[-1]) for row in rows(tab)]
        assert [row.rsplit(" ", 1)[0] for row in rows(tab)] == [names[one["category_id"] - 1] for one in found]
        assert np.allclose(scores, [one["score"] for one in found], atol=0.01)
        assert tab.complaints == []
