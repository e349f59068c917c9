"""How far a download has come: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import time

from tqdm import tqdm

LINE_EVERY_S = 15.0


class ByteProgress:
    """Bytes and objects, out of so many; bytes of a failed attempt are taken back."""

    def __init__(self, objects: int, size: int) -> None:
        self.objects, self.size = objects, size
        self.objects_done, self.bytes_done = 0, 0
        self.next_line_s = time.monotonic() + LINE_EVERY_S
        # Where every size is unknown there is no end to show.
        self.bar = tqdm(desc="fetching", total=size or None, unit="B", unit_scale=True, disable=None)
        self.show_objects()

    def close(self) -> None:
        self.bar.close()

    def add(self, size: int) -> None:
        self.bytes_done += size
        self.bar.update(size)
        if self.bar.disable and time.monotonic() >= self.next_line_s:
            self.next_line_s = time.monotonic() + LINE_EVERY_S
            print(
                f"fetched {self.objects_done:,} of {self.objects:,} objects, "
                f"{size_text(self.bytes_done)} of {size_text(self.size)}"
            )

    def object_done(self) -> None:
        self.objects_done += 1
        self.show_objects()

    def show_objects(self) -> None:
        self.bar.set_postfix_str(f"{self.objects_done:,}/{self.objects:,} objects", refresh=False)


def size_text(size: int) -> str:
    """Bytes for people: 3.2 MB."""
    value, units = float(size), ["bytes", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{size} bytes" if units[0] == "bytes" else f"{value:.1f} {units[0]}"
