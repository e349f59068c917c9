"""Recipe: take the parameters of a recipe over into params.yaml; comments and all other parameters stay.

`make recipe NAME=deepfashion2-500 SOURCE=../deepfashion2` does so and runs the pipeline.

Example: python -m stages.recipe recipes/deepfashion2-500.yaml s3://my-bucket/deepfashion2
"""

import argparse
import io
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from seamline.base.errors import SeamlineError
from seamline.base.files import write_text
from seamline.base.process import run
from seamline.params.loader import load_params, section_types

SECTIONS = {*section_types(), "ratios", "int8"}


def merge(values: Any, changes: Any) -> None:
    """Put changes into sections and sections of sections, in place; all other mappings (classes) are replaced whole."""
    for key, value in changes.items():
        if key in SECTIONS and isinstance(values.get(key), dict):
            merge(values[key], value)
        else:
            values[key] = value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, help="file of recipes/")
    parser.add_argument("source", help="where the dataset is: pull.source")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parser.parse_args()
    if not args.recipe.is_file():
        known = ", ".join(sorted(path.stem for path in args.recipe.parent.glob("*.yaml")))
        raise SeamlineError(f"{args.recipe}: there is no such recipe; there are {known or 'none there'}.")

    before = args.params.read_text(encoding="utf-8")
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    values = yaml.load(before)
    merge(values, yaml.load(args.recipe.read_text(encoding="utf-8")))
    # Absolute, since trials and queued experiments run in copies of the project elsewhere.
    local = Path(args.source)
    values["pull"]["source"] = str(local.resolve()) if local.exists() else args.source
    stream = io.StringIO()
    yaml.dump(values, stream)
    write_text(args.params, stream.getvalue())
    try:
        load_params(args.params)
    except SeamlineError:
        write_text(args.params, before)
        raise
    print(f"{args.params} now has the parameters of {args.recipe}")


if __name__ == "__main__":
    run(main)
