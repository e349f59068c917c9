"""Summary: the main figures of the last run, and where its results are; reads reports/, changes nothing.

Example: seamline summary
"""

import argparse
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        "seamline summary", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--report", type=Path, default=Path("reports"), help="folder of the reports (default: reports)")
    args = parser.parse_args(arguments)

    from seamline.base.processors import processor_kind
    from seamline.params.export import Export
    from seamline.params.loading.loader import load_params
    from seamline.report.summary import reports_to_lines

    max_drop = load_params()[Export].int8.max_drop
    print("\n".join(reports_to_lines(args.report, Path("models/train/best.pt"), max_drop, processor_kind())))
