"""Names that would be markup, formulas or pages' code, seen as the readers of such files see them."""

from __future__ import annotations

import csv
import io
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt

from seamline.base.escaping import Markdown, to_code, to_line, to_markdown, to_spreadsheet

NAMES = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<svg/onload=alert(1)>", "&lt;b&gt;", "R&D", "a | b",
    "[click](javascript:alert(1))", "![x](https://example.com/x.png)", "`code`", "``", "a``b`",
    "**bold** _x_ __y__ *z*",
    "# heading", "- list", "+ list", "* list", "1. list", "2) list", "> quote", "===", "---", "~~gone~~", "\\", "a\\|b",
    "line\nbreak", "    code", "\ttab", "<https://example.com>", "[1]: https://example.com", "a\r\nb", "$x$", "日本 👗",
    "<!-- comment", "pair_id", "mAP50-95", "skirt", "\\`", "`|`", "a\u2028b", "</td></tr></table>", "|---|---|",
]  # fmt: skip
READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_seen_as_it_is_and_does_nothing(name: str) -> None:
    shown = " ".join(name.split())
    for text, tags in (
        (to_line(name), ["p"]),
        (f"# {to_line(name)}", ["h1"]),
        (f"before {to_markdown(name)} behind", ["p"]),
        (f"- {to_line(name)}", ["ul", "li"]),
        (f"see {to_code(name)} there", ["p", "code"]),
    ):
        page = Page(READER.render(text))
        assert page.tags == tags, text
        assert page.text.strip().removeprefix("before ").removesuffix(" behind") in (shown, f"see {shown} there"), text
    table = Page(READER.render(f"| a | b |\n| --- | --- |\n| {to_markdown(name)} | 1 |\n"))
    assert table.tags == ["table", "thead", "tr", "th", "th", "tbody", "tr", "td", "td"]
    assert table.text.split() == ["a", "b", *shown.split(), "1"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_below_a_line_does_not_change_that_line(name: str) -> None:
    """=== or --- below a line would make a heading of it."""
    page = Page(READER.render(f"before\n{to_line(name)}"))
    assert page.tags == ["p"]
    assert page.text.split() == ["before", *name.split()]


def test_addresses_do_not_become_links_where_bare_ones_would() -> None:
    """As GitHub shows Markdown: it looks for :// and www. in the text as written."""
    for name in ("https://example.com/x", "HTTP://example.com", "www.example.com", "WWW.example.com"):
        written = to_markdown(name)
        assert "://" not in written and "www." not in written.lower()
        assert Page(READER.render(written)).text.strip() == name


def test_markdown_stays_as_it_is() -> None:
    assert to_markdown(Markdown("**bold**")) == "**bold**"


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "\tx", "\rx", '=HYPERLINK("http://x")', "-rf.jpg"]
)
def test_a_spreadsheet_does_not_calculate(text: str) -> None:
    stream = io.StringIO()
    csv.writer(stream).writerow([to_spreadsheet(text), "x"])
    (row,) = csv.reader(io.StringIO(stream.getvalue(), newline=""))
    assert row == [f"'{text}", "x"]


def test_numbers_and_other_text_stay() -> None:
    for value in (-1, -0.5, "skirt", "a=b", "a-b", "", "'quoted'", None):
        assert to_spreadsheet(value) is value
