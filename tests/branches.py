"""Say how much of each module's branches the tests took, and fail where masks, splits, metrics or runtime have too few.

Reads what `coverage json` wrote; `make coverage` runs both.

Example: python tests/branches.py .seamline/coverage/coverage.json
"""

import argparse
import json
import sys
from pathlib import Path

LEAST = 95.0  # percent of the branches
MATTER = (
    "seamline/masks/",
    "seamline/dataset/near_duplicates.py",
    "seamline/dataset/stratification.py",
    "seamline/evaluation/average_precision.py",
    "seamline/models/",
    "seamline/inference/",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path)
    args = parser.parse_args()
    few = []
    for name, file in sorted(json.loads(args.report.read_text())["files"].items()):
        summary = file["summary"]
        share = 100 * summary["covered_branches"] / summary["num_branches"] if summary["num_branches"] else 100.0
        matters = name.startswith(MATTER)
        lines = ", ".join(f"{start}->{end}" for start, end in file["missing_branches"]) if matters else ""
        print(f"{'*' if matters else ' '} {name:<36}{share:6.1f}% of {summary['num_branches']:>4} branches  {lines}")
        if matters and share < LEAST:
            few.append(name)
    if few:
        print(f"error: {', '.join(few)}: fewer than {LEAST:g}% of the branches are tested.", file=sys.stderr)
    return int(bool(few))


if __name__ == "__main__":
    sys.exit(main())
