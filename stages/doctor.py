"""Doctor: say what would fail, and how to mend it, before hours are spent.

Looks at Python and its packages, git and DVC (files cut off, locks left by dead processes, links), params.yaml and what
it names (the source, over the network too, within 10 seconds; the classes; weights; GPU), the disk against the source's
size, the processor and what of it may be used, and at files that queued experiments would miss. A line a check: ok,
note (good to know) or FAIL, with what to do below. Changes nothing; exits 1 when anything would fail.

`make doctor` runs it, also where packages are missing.

Example: python -m stages.doctor
"""

import argparse
import sys

from seamline.doctor.checks import examine
from seamline.doctor.finding import conclusion, finding_lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    findings = []
    for finding in examine():
        findings.append(finding)
        print("\n".join(finding_lines(finding)), flush=True)
    print(conclusion(findings))
    return int(any(finding.level == "FAIL" for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
