"""What a self-contained page needs: charts as SVG in the page's own colours, pictures as data, and its template."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

import cv2
import matplotlib.pyplot as plt
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from seamline.base.errors import SeamlineError
from seamline.base.escaping import to_code, to_line, to_markdown
from seamline.export.drops import cost_to_text
from seamline.images.lettering import PREFIX, without_warnings
from seamline.images.reading import read_image

TEMPLATES = Path(__file__).parent / "templates"
PICTURE_QUALITY = 80


def figure_to_svg(figure: Figure) -> str:
    """The figure as an SVG element: black becomes the text's colour, so that it is visible on dark pages too.

    The same figure always gives the same text: no date, no random ids.
    """
    stream = io.StringIO()
    settings: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "seamline", "text.parse_math": False}
    with plt.rc_context(settings), without_warnings():
        figure.savefig(stream, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    referred = set(re.findall(r"#([\w-]+)", text))
    text = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in referred else "", text)
    text = re.sub(rf", '{PREFIX}[^']*'", "", text)  # the reader's own fonts have the letters
    text = text.replace("#000000", "currentColor").replace("#ffffff", "none")
    opening, rest = text.split(">", 1)
    return re.sub(r' (width|height)="[^"]*"', "", opening) + ">" + rest  # the view box keeps the shape


def picture_to_data(path: Path, longest_px: int | None = None) -> str:
    """A picture as a data: address; with longest_px as a JPEG, scaled down to that length at most.

    Raises:
        SeamlineError: when there is no such file.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise SeamlineError(f"{path}: there is no such file; run the stage that makes it (dvc repro).") from None
    kind = "jpeg" if path.suffix == ".jpg" else "png"
    if longest_px is not None:
        picture = read_image(data)
        scale = min(1.0, longest_px / max(picture.shape[:2]))
        if scale < 1:
            size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
            picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, PICTURE_QUALITY])[1].tobytes()
        kind = "jpeg"
    return bytes_to_data(data, kind)


def bytes_to_data(data: bytes, kind: str) -> str:
    """An image file's bytes, of the kind png or jpeg, as a data: address."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def render(template: str, **values: Any) -> str:
    """A template of report/templates, filled in; all values are escaped, as HTML or as Markdown.

    A value that the template needs and does not get is an error.
    """
    environment = Environment(  # Markdown is escaped by as_markdown  # nosec B701
        loader=FileSystemLoader(TEMPLATES),
        autoescape=template.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=None if template.endswith(".html") else as_markdown,
    )
    environment.filters |= {
        "cost": cost_to_text,
        "figure": to_figure,
        "span": to_span,
        "code": to_code,
        "line": to_line,
        "percent": to_percent,
        "signed": to_signed,
    }
    return environment.get_template(template).render(**values)


def to_figure(value: float | None, digits: int = 3) -> str:
    """A number with that many digits; a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def to_signed(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:+.{digits}f}"


def to_span(interval: list[float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


def to_percent(value: float) -> str:
    return f"{100 * value:.1f}%"


def as_markdown(value: Any) -> Any:
    return to_markdown(value) if isinstance(value, str) else value
