"""What all charts share: axes, letters of all languages, and equal files for equal charts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib

from seamline.base.files import whole_file
from seamline.images.lettering import in_first_font, prepare_charts, say_missing, without_warnings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

matplotlib.rcParams["text.parse_math"] = False  # a name with two dollar signs is not a formula
DPI, JPEG_QUALITY = 120, 80


def save(figure: Figure, path: Path) -> None:
    """Save as PNG without the date and version matplotlib puts in, so that equal charts are equal files.

    A path that ends in .jpg is a JPEG, for photos.
    """
    import matplotlib.pyplot as plt  # slow: looks at every font there is
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        # matplotlib looks for all fonts each time it measures a text. Labels of an axis are empty before it is drawn.
        if text.get_text() and in_first_font(text.get_text()):
            text.set_fontfamily("sans-serif")
    with whole_file(path) as temporary, without_warnings():
        kind: dict[str, Any] = {"format": "png", "metadata": {"Software": None}}
        if path.suffix == ".jpg":
            kind = {"format": "jpg", "pil_kwargs": {"quality": JPEG_QUALITY}}
        figure.savefig(temporary, **kind, dpi=DPI, bbox_inches="tight")
    say_missing(figure_to_text(figure))
    plt.close(figure)


def subplots(rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """pyplot's, with letters of all languages."""
    import matplotlib.pyplot as plt

    prepare_charts()
    return plt.subplots(rows, columns, **options)


def figure_to_text(figure: Figure) -> str:
    """All that is written in a figure."""
    from matplotlib.text import Text

    return "".join(text.get_text() for text in figure.findobj(Text) if isinstance(text, Text))


def plain_axes(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def panel_grid(count: int, columns: int, width: float, height: float) -> tuple[Figure, list[Any]]:
    """At least `count` empty panels of width x height inches, row by row."""
    columns = min(count, columns)
    rows = -(-count // columns)
    size = (columns * width, rows * height)
    figure, axes = subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for one in axes.flat:
        one.set(xticks=[], yticks=[])  # ticks that nobody sees would take most of the time
        one.set_axis_off()
    return figure, list(axes.flat)
