"""Seeds: how much the results differ when nothing but the seed of the training changes.

Trains the model of params.yaml once with every seed and evaluates each as the evaluate stage does. `seamline compare`
goes by the results: the more seeds, the smaller a difference it can tell from chance. Not a stage of dvc.yaml, since it
takes one training a seed (`make seeds`); trainings that are finished already, such as the pipeline's own, are used.
Killed, it resumes.

Example: seamline seeds --seeds 0 1 2 3 4
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from seamline.experiments.options import add_data_options, add_images_option


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        "seamline seeds", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], help="two or more (default: 0 1 2)")
    add_data_options(parser)
    add_images_option(parser)
    add(
        "--report",
        type=Path,
        default=Path("reports/train/seed_spread.json"),
        help="file to write (default: reports/train/seed_spread.json)",
    )
    args = parser.parse_args(arguments)
    if len(set(args.seeds)) < 2 or min(args.seeds) < 0:
        parser.error("a spread needs at least two different seeds, none below 0")

    from seamline.params.loading.loader import load_params

    params = load_params()

    from seamline.base.files import write_json
    from seamline.experiments.seeds import seed_spread, spread_to_lines  # torch
    from seamline.inference.threads import limit_other_threads

    limit_other_threads()
    spread = seed_spread(params, args.split, args.yolo, args.images, sorted(set(args.seeds)))
    write_json(args.report, spread)
    print("\n".join(spread_to_lines(spread)))
