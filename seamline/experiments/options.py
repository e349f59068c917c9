"""The options with which tools that train name the pipeline's data."""

import argparse
from pathlib import Path


def add_data_options(parser: argparse.ArgumentParser, when: str = "") -> None:
    """Where the pipeline's data lie.

    Args:
        when: what the options go with, to be said before each.
    """
    add = parser.add_argument
    add("--split", type=Path, default=Path("data/split"), help=f"{when}folder with the splits (default: data/split)")
    add("--yolo", type=Path, default=Path("data/yolo"), help=f"{when}folder of images and labels (default: data/yolo)")


def add_images_option(parser: argparse.ArgumentParser) -> None:
    default = Path("data/subset/images")
    parser.add_argument("--images", type=Path, default=default, help=f"folder of the images (default: {default})")
