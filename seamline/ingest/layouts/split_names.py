"""Which split a file or folder is of, by its name."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

SPLIT_WORDS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def split_of_file(path: PurePosixPath | Path) -> str | None:
    """The split that a path's last part says, or else the one before: instances_train2017.json, valid/_annotations."""
    for part in reversed(path.parts):
        words = "".join(letter if letter.isalpha() else " " for letter in part.lower()).split()
        splits = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
        if splits:
            return splits.pop() if len(splits) == 1 else None
    return None
