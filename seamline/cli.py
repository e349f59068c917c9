"""`seamline VERB ...`: the tools that are not stages of the pipeline."""

import argparse
import difflib
import importlib
import sys
from typing import NamedTuple

from seamline import __version__
from seamline.base.errors import SeamlineError
from seamline.base.escaping import to_terminal
from seamline.base.process import run


class Verb(NamedTuple):
    """A tool; its code is main() of seamline.verbs.VERB, which imports inside what takes long to import."""

    help: str
    anywhere: bool = False  # in any folder; all others only with the code of the project they are started in
    writes: bool = True


VERBS = {
    "predict": Verb("find garments in your own photos: files, folders or a bucket", anywhere=True),
    "describe": Verb("attributes of product photos as a table; also of a zip or a bucket", anywhere=True),
    "serve": Verb("find garments in photos over HTTP, with a page to try it", anywhere=True),
    "catalogue": Verb("keep a catalogue of garments: add photos, remove, show, push", anywhere=True),
    "search": Verb("find similar garments in a catalogue, by photo, vector or text", anywhere=True),
    "summary": Verb("the main figures of the last run, and where its results are"),
    "compare": Verb("experiments or commits side by side: which differences are real"),
    "doctor": Verb("what would fail, and how to fix it, before hours are spent", writes=False),
    "sweep": Verb("search for better hyperparameters; each trial is a DVC experiment"),
    "seeds": Verb("train with several seeds: how much results differ by chance"),
    "families": Verb("models of several families compared fairly: budget, seeds, photos"),
    "recipe": Verb("copy the parameters of a recipe into params.yaml"),
    "trainings": Verb("list the finished trainings, delete them, take one over"),
}


def main() -> None:
    width = max(map(len, VERBS))
    parser = argparse.ArgumentParser(
        "seamline",
        usage="seamline VERB ... (seamline VERB --help says more)",
        description="verbs:\n" + "\n".join(f"  {name:{width}}  {verb.help}" for name, verb in VERBS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("verb", metavar="VERB", choices=VERBS, help=argparse.SUPPRESS)
    parser.add_argument("--version", action="version", version=f"seamline {__version__}")
    words = sys.argv[1:2]
    if words and (near := difflib.get_close_matches(words[0], VERBS, 1)) and words[0] not in VERBS:
        parser.error(f"there is no verb {to_terminal(words[0])!r}; did you mean {near[0]}? seamline --help lists them")
    name = parser.parse_args(words).verb
    wants_help = not {"-h", "--help"}.isdisjoint(sys.argv[2:])
    # The verb is imported inside run(), so that an interrupt during the import is not a traceback.
    run(
        lambda: with_plain_errors(f"seamline.verbs.{name}"),
        anywhere=VERBS[name].anywhere or wants_help,
        writes=VERBS[name].writes and not wants_help,
    )


def with_plain_errors(module: str) -> None:
    """Photos come from anybody, and so do their names, which a terminal may obey."""
    try:
        importlib.import_module(module).main(sys.argv[2:])
    except SeamlineError as error:
        raise SeamlineError(to_terminal(error)) from None
