from __future__ import annotations

import csv
import hashlib
from pathlib import Path

from seamline.ingest.manifest import Row, files_to_rows, write_manifest


def test_rows_are_written_in_the_order_of_their_keys(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"bb")
    rows = [*files_to_rows([("b", tmp_path / "b")]), Row("a, with comma", 3, "e", "v", "s")]
    write_manifest(tmp_path / "out" / "manifest.csv", rows)
    with (tmp_path / "out" / "manifest.csv").open() as stream:
        assert list(csv.reader(stream)) == [
            ["key", "size", "etag", "version", "sha256"],
            ["a, with comma", "3", "e", "v", "s"],
            ["b", "2", "", "", hashlib.sha256(b"bb").hexdigest()],
        ]
