"""A process of its own that makes a catalogue or adds to one, to be killed: without models, and not too fast.

python -m tests.search.process build PHOTOS OUT SCRATCH
python -m tests.search.process add PHOTOS OUT
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from seamline.base.errors import SeamlineError
from seamline.images.reading import Image
from seamline.models.detections import Detections
from seamline.photos.remote import Remote
from seamline.search.building import Tools, listed_to_entries, open_journal, run_key
from seamline.search.changing import add, tools_to_makers
from seamline.search.sources import find_listing, words_to_listing
from seamline.search.writing import placeless, write_catalogue
from tests.search.made import HalvesDetector
from tests.search.stand_in import StandIn

SLOW_S = 0.01
SHA256 = "c" * 64


class SlowDetector(HalvesDetector):
    def detect_beside(self, image: Image) -> Detections:
        time.sleep(SLOW_S)
        return super().detect_beside(image)


def build(photos: Path, out: Path, scratch: Path, tools: Tools) -> list[tuple[str, str]]:
    """As the stage does."""
    listing = find_listing(str(photos), None, {}, tools.remote)
    unusable: list[tuple[str, str]] = []
    with open_journal(scratch, out, run_key(tools, SHA256)) as journal:
        entries = placeless(listed_to_entries(listing.photos, tools, journal), unusable)
        write_catalogue(out, entries, listing.columns, tools_to_makers(tools, SHA256, None))
    return unusable


def main() -> None:
    way, photos, out, *scratch = sys.argv[1:]
    detector: Any = SlowDetector()
    tools = Tools(detector, StandIn(), 48, True, Remote())
    print("begun", flush=True)
    try:
        if way == "build":
            build(Path(photos), Path(out), Path(scratch[0]), tools)
        else:
            add(Path(out), words_to_listing([photos], tools.remote), tools, SHA256, None)
    except SeamlineError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
