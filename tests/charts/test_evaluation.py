"""Charts and drawings: every name can be drawn, nothing known is left out, equal input gives equal files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from seamline.charts.evaluation import (
    CURVES,
    confusion_figure,
    curve_figure,
    interval_figure,
    mistakes_figure,
    precision_recall_figure,
    reliability_figure,
)
from seamline.charts.style import save
from seamline.report.page import figure_to_svg, picture_to_data

ODD_NAMES = ["$5_$10", "$x$ & <b>y</b>", "_hidden", "Röcke, été", "two\nlines", ""]


def texts(figure: Figure) -> list[str]:
    axes = figure.axes[0]
    legend = axes.get_legend()
    return [text.get_text() for text in legend.get_texts()] if legend else []


def odd_figures() -> list[Figure]:
    ones = [0.0, 1.0]
    return [
        curve_figure([1, 2], dict.fromkeys(ODD_NAMES, ones), "t", xlabel="x", ylabel="y"),
        precision_recall_figure(
            {"recall": ones, "precision": ones, **{f"precision {name}": ones for name in ODD_NAMES}}
        ),
        interval_figure([(name, 0.5, [0.4, 0.6]) for name in ODD_NAMES], "t", "x"),
        confusion_figure([*ODD_NAMES, "(background)"], np.eye(len(ODD_NAMES) + 1, dtype=int), 0.5),
        mistakes_figure(dict.fromkeys(ODD_NAMES, 1), "t"),
    ]


def test_every_name_can_be_drawn(tmp_path: Path) -> None:
    for number, figure in enumerate(odd_figures()):
        save(figure, tmp_path / f"{number}.png")
        assert (tmp_path / f"{number}.png").stat().st_size > 1000
    for figure in odd_figures():
        svg = figure_to_svg(figure)
        assert "<b>" not in svg
        assert "<metadata" not in svg


def test_equal_figures_are_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(odd_figures()[0], tmp_path / f"{name}.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert [figure_to_svg(figure) for figure in odd_figures()] == [figure_to_svg(figure) for figure in odd_figures()]


def test_a_name_with_an_underscore_before_it_is_in_the_legend() -> None:
    figure = curve_figure([1, 2], {"_other": [0.0, 1.0], "top": [0.0, 1.0]}, "t", xlabel="x", ylabel="y")
    assert texts(figure) == [" _other", "top"]


def test_a_missing_value_leaves_a_gap_and_not_a_zero() -> None:
    figure = curve_figure([1, 2, 3], {"y": [0.5, None, 0.7], "none": [None] * 3}, "t", xlabel="x", ylabel="y")
    (line,) = figure.axes[0].lines
    assert np.asarray(line.get_xydata()).tolist() == [[1, 0.5], [3, 0.7]]


def test_the_only_epoch_of_a_training_is_seen() -> None:
    for count, marker in ((1, "o"), (9, "None")):
        figure = curve_figure(list(range(count)), {"y": [0.5] * count}, "t", xlabel="x", ylabel="y")
        assert [line.get_marker() for line in figure.axes[0].lines] == [marker]


def test_of_many_classes_their_mean_is_drawn() -> None:
    many = {f"precision {number}": [1.0, 0.0] for number in range(CURVES + 1)}
    figure = precision_recall_figure({"recall": [0.0, 1.0], "precision": [0.9, 0.1], **many})
    assert texts(figure) == ["mean of the classes"]
    assert np.asarray(figure.axes[0].lines[0].get_ydata()).tolist() == [0.9, 0.1]
    few = {f"precision {number}": [1.0, 0.0] for number in ("recall", "precision")}
    figure = precision_recall_figure({"recall": [0.0, 1.0], "precision": [0.9, 0.1], **few})
    assert texts(figure) == ["recall", "precision"]  # classes of these names
    assert precision_recall_figure({}).axes  # nothing was evaluated


def test_a_dot_without_an_interval_is_hollow() -> None:
    axes = interval_figure([("a", 0.5, [0.4, 0.6]), ("b", 0.3, None), ("c", None, None)], "t", "x").axes[0]
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert [dot.get_markerfacecolor() for dot in dots] == ["#0072B2", "none"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b"]


def test_empty_bins_are_left_out() -> None:
    rows: list[dict[str, Any]] = [
        {"predictions": 3, "mean_score": 0.25, "right": 0.5},
        {"predictions": 0, "mean_score": None, "right": None},
    ]
    axes = reliability_figure(rows, 0.25, {"mean": 0.1, "limit": 0.2}).axes[0]
    assert np.asarray(axes.lines[1].get_xydata()).tolist() == [[0.25, 0.5]]
    assert "(off by 0.250 on average; by chance 0.100, 95%: up to 0.200)" in axes.get_xlabel()
    assert reliability_figure([], None, None).axes


def test_svg_takes_the_pages_colours_and_size() -> None:
    svg = figure_to_svg(interval_figure([("a", 0.5, [0.4, 0.6])], "t", "x"))
    opening = svg[: svg.index(">")]
    assert "viewBox" in opening
    assert not re.search(r" (width|height)=", opening)
    assert "#000000" not in svg
    assert "currentColor" in svg
    assert "<text" in svg  # letters, and not their outlines
    ids = re.findall(r' id="([^"]+)"', svg)
    assert all(f"#{name}" in svg for name in ids)


def test_large_pictures_are_made_smaller(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (400, 800, 3), dtype=np.uint8)
    figure = Figure(figsize=(8, 4), dpi=100)
    figure.figimage(picture)
    figure.savefig(tmp_path / "a.png")
    whole, small = picture_to_data(tmp_path / "a.png"), picture_to_data(tmp_path / "a.png", 200)
    assert whole.startswith("data:image/png;base64,")
    assert small.startswith("data:image/jpeg;base64,")
    assert len(small) < len(whole) / 10
