"""Names in all languages: each letter is one, in its order, in overlays and on charts, and nothing warns."""

from __future__ import annotations

import importlib.util
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.figure import Figure

from seamline.charts.dataset import classes_chart, cooccurrence_chart, positions_chart
from seamline.charts.evaluation import confusion_figure, curve_figure, interval_figure
from seamline.charts.style import save
from seamline.images import drawing, lettering
from seamline.images.drawing import Shape, drawn
from seamline.images.lettering import columns_of, dejavu, shortened, text_to_letters, text_to_mask, wrapped
from seamline.report.page import figure_to_svg

NAMES = {
    "Simplified Chinese": "短袖上衣",
    "Traditional Chinese": "長袖外套",
    "Japanese": "半袖トップス",
    "Korean": "반팔 상의",
    "Arabic": "قميص بأكمام",
    "Hebrew": "חולצה קצרה",
    "Hindi": "छोटी कमीज़",
    "Thai": "เสื้อแขนสั้น",
    "Bengali": "ব্লাউজ",
    "Tamil": "சட்டை",
    "Amharic": "ሸሚዝ",
    "Georgian": "პერანგი",
    "Khmer": "អាវ",
    "emoji": "👕👗🧥",
}
LONG = [name * 6 for name in NAMES.values()]
NOT_A_LETTER = "\U0010fffd"  # of the last private plane

Mask = npt.NDArray[np.uint8]


@pytest.fixture(autouse=True)
def strict() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture
def without_fonts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(lettering, "PACKAGES", ("no_such_fonts",))
    forgetful(monkeypatch)
    monkeypatch.setitem(matplotlib.rcParams, "font.family", ["sans-serif"])
    lettering.prepare_charts()  # it was, so that nothing changes that any more
    lettering.more_faces.cache_clear()
    yield
    lettering.more_faces.cache_clear()


def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has said nothing yet."""
    for name in ("known", "said"):
        monkeypatch.setattr(lettering, name, set())


def mask_of(text: str) -> Mask:
    """Without the rows and columns in which nothing is drawn."""
    mask = text_to_mask(text, 40, dejavu())
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_every_letter_is_drawn_as_itself_and_not_as_a_box(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Boxes of one script are all alike, and one for something without a script is known."""
    letters = sorted({one for one in name if lettering.is_visible(one) and not is_mark(one)})
    pictures = [mask_of(letter) for letter in letters]
    assert all(picture.max() > 200 and (picture > 100).sum() > 40 for picture in pictures)
    assert len({(picture.shape, picture.tobytes()) for picture in pictures}) == len(letters)
    assert not capsys.readouterr().err
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        box = mask_of(NOT_A_LETTER)
    assert all(picture.shape != box.shape or (picture != box).any() for picture in pictures)


def is_mark(letter: str) -> bool:
    return len(text_to_letters(f"x{letter}")) == 1


def alike(one: Mask, other: Mask) -> float:
    """How alike two pictures are, 1 for equal ones, at the best place within two pixels."""
    height, width = max(one.shape[0], other.shape[0]) + 4, max(one.shape[1], other.shape[1]) + 4
    fixed = np.zeros((height, width))
    fixed[2 : 2 + one.shape[0], 2 : 2 + one.shape[1]] = one
    found = []
    for down, right in np.ndindex(5, 5):
        moved = np.zeros((height + 2, width + 2))
        moved[down : down + other.shape[0], right : right + other.shape[1]] = other
        found.append(np.corrcoef(fixed.ravel(), moved[:height, :width].ravel())[0, 1])
    return float(max(found))


def test_hebrew_and_arabic_are_written_from_the_right() -> None:
    both, first, second = mask_of("שד"), mask_of("ש"), mask_of("ד")
    right, left = both[:, -first.shape[1] :], both[:, : second.shape[1]]
    assert alike(right, first) > 0.9 > alike(right, second)
    assert alike(left, second) > 0.9 > alike(left, first)
    latin = mask_of("LX")
    assert alike(latin[:, : mask_of("L").shape[1]], mask_of("L")) > 0.9


def test_arabic_letters_are_joined_and_indian_signs_stand_where_they_belong() -> None:
    assert mask_of("بيت").any(axis=0).all()  # no gap from the first column to the last
    assert not mask_of("ب ي ت").any(axis=0).all()
    ka, sign = mask_of("क"), mask_of("\u25cc\u093f")  # the sign follows its letter in the text, and stands before it
    together = mask_of("कि")
    assert alike(together[-ka.shape[0] :, -ka.shape[1] :], ka) > 0.8
    assert together.shape[1] < ka.shape[1] + sign.shape[1]


def test_joined_emoji_are_one_picture() -> None:
    one = mask_of("👩").shape[1]
    for joined in ("👩‍🦰", "👍🏽", "🏳️‍🌈", "🇫🇷"):
        assert mask_of(joined).shape[1] < 1.5 * one, joined


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_names_in_overlays_are_legible_and_inside(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    image = np.full((300, 200, 3), 100, np.uint8)
    for at in ((0, 0), (140, 90), (290, 190)):
        mask = np.zeros((300, 200), np.uint8)
        mask[at[0] : at[0] + 10, at[1] : at[1] + 10] = 1
        found = drawn(image, [Shape((0, 0, 0), name, " 0.87", mask)])
        changed = (found != drawn(image, [Shape((0, 0, 0), "", mask=mask)])).any(axis=2)
        assert (found == 255).all(axis=2).sum() > 30
        assert (found == 0).all(axis=2).sum() > 100
        assert not changed[:, :1].any() and not changed[:, -1:].any()
    assert not capsys.readouterr().err


def test_a_name_that_fits_no_picture_is_cut_and_its_score_stays() -> None:
    image = np.full((400, 120, 3), 100, np.uint8)
    mask = np.ones((400, 120), np.uint8)
    for name in LONG:
        first, second = (drawn(image, [Shape((0, 0, 0), name * 3, f" {score}", mask)]) for score in ("0.87", "0.11"))
        columns = np.flatnonzero((first != second).any(axis=(0, 2)))
        assert 0 < len(columns) < 60, name
        assert columns[0] > 1 and columns[-1] < 119, name


def figures(names: list[str]) -> dict[str, Figure]:
    return {
        "curve": curve_figure([1, 2], {name: [0.2, 0.9] for name in names}, "t", xlabel="x", ylabel="y"),
        "interval": interval_figure([(name, 0.5, [0.4, 0.6]) for name in names], "t", "x"),
        "confusion": confusion_figure([*names, "(background)"], np.eye(len(names) + 1, dtype=int), 0.5),
    }


def write_charts(names: list[str], folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    for name, figure in figures(names).items():
        save(figure, folder / f"{name}.png")
    ones = np.ones((3, len(names)), dtype=np.int64)
    classes_chart(names, ones, np.array([3, 2, 1]), folder / "classes.png")
    cooccurrence_chart(names, np.ones((len(names), len(names)), dtype=np.int64), folder / "cooccurrence.png")
    positions_chart(names[:2], [np.eye(16) for _ in names[:2]], [1, 1], folder / "positions.png")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_charts_have_all_letters_and_are_equal_files_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forgetful(monkeypatch)
    names = ["短袖 قميص", "半袖 חולצה", "반팔 कमीज़", "👕 เสื้อ"]
    found = write_charts(names, tmp_path / "a")
    assert found == write_charts(names, tmp_path / "b")
    other = write_charts([f"{name[:-1]}{name[0]}" for name in names], tmp_path / "c")
    assert all(found[name] != other[name] for name in found)
    assert not capsys.readouterr().err


def test_long_names_on_charts_do_not_overlap() -> None:
    for figure in figures(LONG).values():
        figure.canvas.draw()
        axes = figure.axes[0]
        labels = [text.get_window_extent() for text in axes.get_yticklabels()] if len(axes.get_yticks()) > 8 else []
        legend = axes.get_legend()
        labels += [text.get_window_extent() for text in legend.get_texts()] if legend else []
        assert len(labels) >= 8
        assert not any(one.overlaps(other) for at, one in enumerate(labels) for other in labels[:at])


def test_pictures_with_latin_names_are_the_same_with_the_fonts_and_without(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    names = ["short sleeve top", "Röcke, été", "юбка — “x”", "φόρεμα"]
    mask = np.ones((100, 300), np.uint8)
    image = np.full((100, 300, 3), 90, np.uint8)
    with_fonts = (
        write_charts(names, tmp_path / "with"),
        [drawn(image, [Shape((0, 0, 0), name, mask=mask)]) for name in names],
    )
    svg = [figure_to_svg(figure) for figure in figures(names).values()]
    request.getfixturevalue("without_fonts")
    without = (
        write_charts(names, tmp_path / "without"),
        [drawn(image, [Shape((0, 0, 0), name, mask=mask)]) for name in names],
    )
    assert with_fonts[0] == without[0]
    assert all((one == other).all() for one, other in zip(with_fonts[1], without[1], strict=True))
    assert svg == [figure_to_svg(figure) for figure in figures(names).values()]


@pytest.mark.usefixtures("without_fonts")
def test_without_the_fonts_one_sentence_says_so_and_what_brings_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = np.full((100, 300, 3), 90, np.uint8)
    drawn(image, [Shape((0, 0, 0), name, mask=np.ones((100, 300), np.uint8)) for name in ("قميص", "юбка", "上衣 0.87")])
    write_charts(["短袖", "छोटी"], tmp_path / "a")
    [line] = capsys.readouterr().err.splitlines()
    assert line == (
        "pictures: letters such as 上 衣 are drawn as boxes, since no font here has them; "
        "docs/models.md says what brings fonts."
    )


def test_a_letter_that_no_font_has_is_said_where_all_fonts_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forgetful(monkeypatch)
    assert all(importlib.util.find_spec(package) for package in lettering.PACKAGES)
    for _ in range(2):
        text_to_mask(f"x{NOT_A_LETTER}\u200d\ufe0f\u200f", 20, dejavu())
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith("since no font here has them.")


def test_the_page_leaves_letters_to_the_readers_fonts() -> None:
    for figure in figures(list(NAMES.values())).values():
        svg = figure_to_svg(figure)
        assert lettering.PREFIX not in svg
        assert set(re.findall(r"[^\x00-\x7f]", svg)) >= {"短", "ק", "क"}


@pytest.mark.parametrize("name", [*LONG, "a" * 40, "e\u0301" * 40, "👩‍🦰" * 30, "🇫🇷" * 30, "각" * 40])
def test_a_long_name_is_cut_between_letters(name: str) -> None:
    for limit in (20, 24, 32):
        short = shortened(name, limit)
        head, _, tail = short.partition("…")
        assert columns_of(short) <= limit
        assert columns_of(short) > limit - 5 or short == name
        letters = text_to_letters(name)
        assert text_to_letters(head) == letters[: len(text_to_letters(head))]
        assert not tail or text_to_letters(tail) == letters[-len(text_to_letters(tail)) :]


def test_names_are_cut_and_wrapped_by_their_columns() -> None:
    assert shortened("x" * 32) == "x" * 32
    assert shortened("abc" + "x" * 40 + "def", 8) == "abc…xdef"
    assert shortened("短袖" * 30, 20) == "短袖短袖…袖短袖短袖"
    assert shortened("") == ""
    assert wrapped("short sleeve top of cotton", 12) == "short sleeve\ntop of\ncotton"
    assert wrapped("短袖上衣棉质夏季", 8) == "短袖上衣\n棉质夏季"
    england = "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"  # a black flag and what it says
    assert text_to_letters(f"a{england}b") == ["a", england, "b"]
    assert text_to_letters("क्षि👩‍🦰e\u0301🇫🇷🇩🇪") == ["क्षि", "👩‍🦰", "e\u0301", "🇫🇷", "🇩🇪"]


def test_fonts_of_the_system_are_not_taken() -> None:
    lettering.prepare_charts()
    from matplotlib.font_manager import fontManager

    families = [name for name in matplotlib.rcParams["font.family"] if name != "sans-serif"]
    assert len(families) == len(lettering.more_faces()) > 20
    for family, face in zip(families, lettering.more_faces(), strict=True):
        [entry] = [entry for entry in fontManager.ttflist if entry.name == family]
        assert (Path(entry.fname), entry.index) == face
    assert drawing.is_plain("Röcke, été, юбка") and not drawing.is_plain("上衣")
