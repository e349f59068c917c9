"""Sweep: search the hyperparameters in params.yaml's section `sweep` for the best mAP50-95 on val.

Every trial is a DVC experiment (`dvc exp show`) that trains and evaluates, in a copy of the project as it was when the
sweep started: later changes of the workspace do not reach the trials. Optuna chooses the values and stops trials that
are behind the median of the others at the same epoch. Killed, the same command resumes with the trial that was cut.

Example: seamline sweep --name sweep
"""

import argparse
from collections.abc import Sequence


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        "seamline sweep", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--name", default="sweep", help="beginning of the experiments' names (default: sweep)")
    args = parser.parse_args(arguments)

    from seamline.experiments.sweeping import sweep

    print("\n".join(sweep(args.name)))
