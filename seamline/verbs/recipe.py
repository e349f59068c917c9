"""Recipe: copy the parameters of a recipe into params.yaml; comments and all other parameters stay.

`make recipe NAME=deepfashion2-500 SOURCE=../deepfashion2` does so and runs the pipeline.

Example: seamline recipe recipes/deepfashion2-500.yaml s3://my-bucket/deepfashion2
"""

import argparse
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        "seamline recipe", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", type=Path, help="a file in recipes/")
    parser.add_argument("source", help="where the dataset is: pull.source")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="the file to change")
    args = parser.parse_args(arguments)

    from seamline.experiments.recipes import copy_recipe

    copy_recipe(args.recipe, args.source, args.params)
    print(f"{args.params} now has the parameters of {args.recipe}")
