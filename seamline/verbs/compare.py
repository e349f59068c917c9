"""Compare: experiments, commits or branches side by side, and which of their differences mean anything.

Prints each difference from the first one with its interval and a verdict, and writes a page with curves, changed
parameters and the same test images as each model sees them. Reads reports/ as git has it; nothing is run again.
A single revision is compared with the workspace.

Example: seamline compare main quick-lynx workspace
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from seamline.base.process import SCRATCH


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        "seamline compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("revisions", nargs="+", metavar="REV", help="commit, branch, tag, experiment, or workspace")
    parser.add_argument("--reports", type=Path, default=Path("reports"), help="folder of the reports: reports")
    parser.add_argument("--out", type=Path, default=SCRATCH / "compare.html", help="the page to write")
    args = parser.parse_args(arguments)

    from seamline.base.files import write_text
    from seamline.experiments.comparing import comparison_to_lines, read_comparison
    from seamline.experiments.comparison_page import comparison_to_page

    comparison = read_comparison(args.revisions, args.reports)
    print("\n".join(comparison_to_lines(comparison)))
    write_text(args.out, comparison_to_page(comparison, args.reports))
    print(f"page: {args.out}")
