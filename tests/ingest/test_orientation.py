"""Which way up an image is where EXIF turns it: what its record says, and else what the others show."""

from __future__ import annotations

from pathlib import Path

import pytest

from seamline.images.files import Picture
from seamline.ingest.canonical.images import (
    EXIF_AMBIGUOUS,
    Entry,
    ImageHead,
    canonical_size,
    entry_problem,
    other_size_hint,
    other_size_of,
)

OTHER_SIZE = "image: has another size than its record says"


def entry_of(height: int | None, width: int | None, orientation: int, shown: tuple[int, int]) -> Entry:
    head = ImageHead(id=1, file_name="a.jpg", height=height, width=width)
    picture = Picture(height=shown[0], width=shown[1], format="JPEG", orientation=orientation)
    return Entry(part=0, raw=b"{}", head=head, path=Path("a.jpg"), picture=picture)


@pytest.mark.parametrize(
    ("shown", "stored", "problem", "upright"),
    [
        (0, 0, EXIF_AMBIGUOUS, False),
        (3, 2, EXIF_AMBIGUOUS, False),  # the others contradict each other, however many there are of each
        (1, 1, EXIF_AMBIGUOUS, False),
        (1, 0, None, False),
        (0, 1, None, True),
    ],
)
@pytest.mark.parametrize(("height", "width"), [(50, 50), (None, None), (None, 50)])
def test_a_square_or_an_image_without_a_size_is_as_the_others_are(
    height: int | None, width: int | None, shown: int, stored: int, problem: str | None, upright: bool
) -> None:
    entry = entry_of(height, width, 3, (50, 50))
    assert entry_problem(entry, shown, stored) == problem
    assert entry.upright == upright


@pytest.mark.parametrize(("shown", "stored"), [(0, 0), (1, 1), (5, 0), (0, 5)])
def test_an_image_on_its_side_is_what_its_own_record_says(shown: int, stored: int) -> None:
    """6 turns by 90 degrees: shown 60 x 40, stored 40 x 60."""
    as_shown, as_stored, other = (entry_of(*size, 6, (60, 40)) for size in ((60, 40), (40, 60), (60, 60)))
    assert entry_problem(as_shown, shown, stored) is None
    assert (as_shown.upright, canonical_size(as_shown)) == (False, (60, 40))
    assert entry_problem(as_stored, shown, stored) is None
    assert (as_stored.upright, canonical_size(as_stored)) == (True, (40, 60))
    assert entry_problem(other, shown, stored) == OTHER_SIZE


def test_an_image_that_exif_does_not_turn_has_its_size_or_none() -> None:
    assert entry_problem(entry_of(60, 40, 1, (60, 40)), 0, 0) is None
    assert entry_problem(entry_of(None, None, 1, (60, 40)), 0, 0) is None
    assert entry_problem(entry_of(40, 60, 1, (60, 40)), 0, 0) == OTHER_SIZE


@pytest.mark.parametrize(
    ("record", "file", "kind"),
    [
        ((100, 200), (200, 100), "exchanged"),
        ((100, 200), (50, 100), "scaled"),
        ((100, 201), (50, 100), "scaled"),  # to whole pixels: 100.5 were wanted
        ((100, 200), (50, 105), None),
        ((100, 200), (50, 50), None),
        ((None, 200), (50, 100), None),
    ],
)
def test_another_size_is_one_of_the_same_shape_or_has_its_sides_exchanged(
    record: tuple[int | None, int], file: tuple[int, int], kind: str | None
) -> None:
    assert other_size_of(entry_of(*record, 1, file)) == kind


def test_the_hint_is_what_most_photos_of_another_size_are() -> None:
    scaled, exchanged = entry_of(100, 200, 1, (50, 100)), entry_of(100, 200, 1, (200, 100))
    assert "pull.convention: scaled" in other_size_hint([exchanged, scaled, scaled])
    assert "pull.convention: exchanged" in other_size_hint([scaled, exchanged, exchanged])
    assert other_size_hint([entry_of(100, 200, 1, (50, 50))]) == ""
