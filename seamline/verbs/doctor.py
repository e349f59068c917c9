"""Doctor: say what would fail, and how to fix it, before hours are spent.

Checks Python and its packages, git and DVC (truncated files, locks of dead processes, links), params.yaml and what it
names (the source, over the network too, within 10 seconds; the classes; weights; GPU), the disk against the size of the
source, the processor and how much of it this process may use, and files that queued experiments would miss. Prints one
line a check: ok, note (good to know) or FAIL, with the remedy below. Changes nothing; exits 1 if anything would fail.

`make doctor` runs it, also when packages are missing.

Example: seamline doctor
"""

import argparse
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        "seamline doctor", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args(arguments)

    from seamline.doctor.checks import examine
    from seamline.doctor.finding import conclusion, finding_lines

    made = []
    for finding in examine():
        made.append(finding)
        print("\n".join(finding_lines(finding)), flush=True)
    print(conclusion(made))
    if any(finding.level == "FAIL" for finding in made):
        sys.exit(1)
