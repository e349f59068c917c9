"""Make docs/picture.png, which opens README.md: a photo of the sample with its outlines, beside the report.

Both come from reports/ as it is now. Needs Chromium (Debian's package `chromium`). Make it again whenever the results
are: checks/test_promises.py compares the figures that it was made with.

Example: python docs/make_picture.py
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

PROJECT = Path(__file__).resolve().parent.parent
REPORTS = PROJECT / "reports"
PICTURE = PROJECT / "docs" / "picture.png"
OVERLAY = REPORTS / "evaluate" / "sample" / "195.jpg"  # left half: as annotated; right half: as predicted
WIDTH, HEIGHT, SCALE = 1180, 684, 1.4
PAGE = f"""<!DOCTYPE html><style>
body {{ margin: 0; background: #fff; font: 15px "DejaVu Sans", sans-serif; color: #334; overflow: hidden; }}
figure {{ margin: 0 0 8px; width: 244px; }}
div {{ height: 308px; border-radius: 8px; background: url("{OVERLAY.as_uri()}") 0 0 / 203% 100%; }}
div.predicted {{ background-position: 100% 0; }}
figcaption {{ height: 26px; }}
iframe {{ position: absolute; left: 264px; top: 0; width: 914px; height: 682px; }}
iframe {{ border: 1px solid #bbc; border-radius: 8px; }}
</style>
<figure><figcaption>annotated</figcaption><div></div></figure>
<figure><figcaption>predicted</figcaption><div class="predicted"></div></figure>
<iframe src="{(REPORTS / "index.html").as_uri()}" scrolling="no"></iframe>"""


def shown_figures() -> str:
    """The files whose figures the report has at its top, as one text."""
    files = [REPORTS / "accuracy.json", REPORTS / "speed.json"]
    return json.dumps({path.name: json.loads(path.read_text(encoding="utf-8")) for path in files}, sort_keys=True)


def photograph(browser: str, page: str, folder: Path) -> Image.Image:
    (folder / "page.html").write_text(page, encoding="utf-8")
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
        "--disable-background-networking", "--blink-settings=preferredColorScheme=1",
        f"--user-data-dir={folder / 'profile'}", f"--force-device-scale-factor={SCALE}",
        f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={folder / 'shot.png'}", (folder / "page.html").as_uri(),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=180)
    return Image.open(folder / "shot.png").convert("RGB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--browser", default="chromium", help="the program (default: %(default)s)")
    browser = parser.parse_args().browser
    with tempfile.TemporaryDirectory() as folder:
        shot = photograph(browser, PAGE, Path(folder))
    notes = PngInfo()
    notes.add_text("figures", shown_figures())
    # 256 colours: a third of the bytes, and text stays sharp.
    shot.quantize(256, dither=Image.Dither.NONE).save(PICTURE, optimize=True, pnginfo=notes)
    print(f"{PICTURE}: {PICTURE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
