"""The options of tools that embed and search, and what params.yaml says where there is one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from seamline.base.process import is_project

if TYPE_CHECKING:  # msgspec, which --help does not need
    from seamline.params.search import Search

MODEL, EMBEDDER, CATALOGUE = "models/export/openvino", "models/embedder/openvino", "data/catalogue"


def add_model_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", type=Path, default=Path(MODEL), help=f"finds the garments (default: {MODEL})")
    add("--embedder", type=Path, default=Path(EMBEDDER), help=f"makes their vectors (default: {EMBEDDER})")


def search_settings() -> Search:
    """Section search of the project's params.yaml; elsewhere its defaults."""
    from seamline.params.search import Search

    if not is_project(Path()) or not Path("params.yaml").is_file():
        return Search()
    from seamline.params.loading.loader import load_params

    return load_params()[Search]
