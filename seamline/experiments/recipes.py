"""Recipes: parameters for a known dataset, copied into params.yaml."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from seamline.base.errors import SeamlineError
from seamline.base.files import write_text
from seamline.params.loading.loader import load_params, section_types

SECTIONS = {*section_types(), "ratios", "int8"}


def copy_recipe(recipe: Path, source: str, params: Path) -> None:
    """Change in a parameter file what the recipe names, and pull.source; comments and all other values stay.

    Raises:
        SeamlineError: when there is no such recipe, or a value is not allowed; then the file is left as it was.
    """
    if not recipe.is_file():
        known = ", ".join(sorted(path.stem for path in recipe.parent.glob("*.yaml")))
        raise SeamlineError(f"{recipe}: there is no such recipe; there are {known or 'none there'}.")
    if not source:
        raise SeamlineError("the source is empty; give SOURCE=... to make, or name the dataset's folder or address.")
    before = params.read_text(encoding="utf-8")
    yaml = YAML()
    yaml.representer.add_representer(type(None), null_to_node)
    yaml.preserve_quotes = True
    yaml.width = 4096
    values = yaml.load(before)
    merge(values, yaml.load(recipe.read_text(encoding="utf-8")))
    # Absolute, since trials and queued experiments run in copies of the project elsewhere.
    values["pull"]["source"] = str(Path(source).resolve()) if Path(source).exists() else source
    stream = io.StringIO()
    yaml.dump(values, stream)
    write_text(params, stream.getvalue())
    try:
        load_params(params)
    except SeamlineError:
        write_text(params, before)
        raise


def null_to_node(representer: Any, _: None) -> Any:
    """As params.yaml writes it; ruamel's own way is to write nothing."""
    return representer.represent_scalar("tag:yaml.org,2002:null", "null")


def merge(values: Any, changes: Any) -> None:
    """Change values in place, in sections and their subsections; other mappings (classes) are replaced whole."""
    for key, value in changes.items():
        if key in SECTIONS and isinstance(values.get(key), dict):
            merge(values[key], value)
        else:
            values[key] = value
