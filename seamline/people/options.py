"""The options with which tools look for people first; what they leave out is as params.yaml has it by default."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from seamline.base.numbers import number_from

if TYPE_CHECKING:  # OpenCV, the engines and msgspec, which --help does not need
    from seamline.inference.detector import Detector
    from seamline.people.detector import AnyDetector

MOST_PEOPLE = 1000
PERSON_CONFIDENCE, PEOPLE_LOOKED_AT = 0.25, 16  # as params.people.People has them


def add_people_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--people", type=Path, metavar="MODEL", help="find people with this model first, and garments around each")
    add("--person-class", metavar="NAME", help="the class of --people's model that is people (default: person)")
    add(
        "--person-confidence",
        type=number_from(float, 0, 1),
        help=f"leave out weaker people (default: {PERSON_CONFIDENCE:g})",
    )
    add(
        "--most-people",
        type=number_from(int, 1, MOST_PEOPLE),
        help=f"people in a photo that are looked at closely (default: {PEOPLE_LOOKED_AT})",
    )


def check_people_options(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Ends the program where an option would be passed over."""
    for name in ("person_class", "person_confidence", "most_people"):
        if getattr(args, name) is not None and args.people is None:
            parser.error(f"--{name.replace('_', '-')}: needs --people")


def with_people(garments: Detector, args: argparse.Namespace) -> AnyDetector:
    """The detector that the options ask for.

    Raises:
        SeamlineError: when the model of --people cannot be opened, or has no class that is people.
    """
    if args.people is None:
        return garments
    from seamline.params.people import People
    from seamline.people.detector import open_people

    given = {"confidence": args.person_confidence, "most": args.most_people, "person_class": args.person_class}
    settings = People(**{name: value for name, value in given.items() if value is not None})
    return open_people(garments, args.people, settings, args.device)
