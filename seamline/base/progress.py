"""How far a download or another long work has come: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

LINE_EVERY_S = 15.0


class ByteProgress:
    """Bytes and objects fetched, of those in all; bytes of a failed attempt are taken back."""

    def __init__(self, objects: int, size: int) -> None:
        self.objects, self.size = objects, size
        self.objects_done, self.bytes_done = 0, 0
        self.next_line_s = time.monotonic() + LINE_EVERY_S
        # Where no size is known there is no total to show.
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


class CountProgress:
    """How many are done: a bar on a terminal, a line now and then in a log.

    Args:
        done: what is done to them, as in "predicted".
        unit: what they are, in the plural.
        total: how many there are, where that is known.
        before: how many an earlier run has done.
    """

    def __init__(self, done: str, unit: str, total: int | None = None, before: int = 0) -> None:
        self.done, self.unit, self.total, self.before = done, unit, total, before
        self.count, self.bad = before, 0
        self.start_s = time.monotonic()
        self.next_line_s = self.start_s + LINE_EVERY_S
        self.bar = tqdm(desc=done, total=total, initial=before, unit=f" {unit}", disable=None, leave=False)

    def close(self) -> None:
        self.bar.close()

    def add(self, bad: bool = False) -> None:
        self.count += 1
        self.bad += bad
        if bad and not self.bar.disable:
            self.bar.set_postfix_str(f"{self.bad:,} cannot be used", refresh=False)
        self.bar.update()
        if self.bar.disable and time.monotonic() >= self.next_line_s:
            self.next_line_s = time.monotonic() + LINE_EVERY_S
            print(self.line(time.monotonic() - self.start_s), file=sys.stderr, flush=True)

    def line(self, seconds: float) -> str:
        of = "" if self.total is None else f" of {self.total:,}"
        rate = f"{(self.count - self.before) / seconds:.1f} a second"
        bad = f", {self.bad:,} of them cannot be used" if self.bad else ""
        return f"{self.done} {self.count:,}{of} {self.unit}, {rate}{bad}"


def size_text(size: int) -> str:
    """Bytes for people: 3.2 MB."""
    value, units = float(size), ["bytes", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{size} bytes" if units[0] == "bytes" else f"{value:.1f} {units[0]}"
