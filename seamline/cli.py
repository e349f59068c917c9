"""`seamline VERB ...`: the tools that are not stages of the pipeline, in any folder."""

import argparse
import importlib
import sys

from seamline import __version__
from seamline.base.errors import SeamlineError
from seamline.base.escaping import to_terminal
from seamline.base.process import run

# The module that has the verb's main(), and its line of help. What takes long to import is imported inside main().
VERBS = {
    "predict": ("seamline.verbs.predict", "find garments in your own photos: files, folders or a bucket"),
}


def main() -> None:
    width = max(map(len, VERBS))
    parser = argparse.ArgumentParser(
        "seamline",
        usage="seamline VERB ... (seamline VERB --help says more)",
        description="verbs:\n" + "\n".join(f"  {verb:{width}}  {line}" for verb, (_, line) in VERBS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("verb", metavar="VERB", choices=VERBS, help=argparse.SUPPRESS)
    parser.add_argument("--version", action="version", version=f"seamline {__version__}")
    verb = parser.parse_args(sys.argv[1:2]).verb
    # Imported inside, so that an interrupt meanwhile is no traceback.
    run(lambda: with_plain_errors(VERBS[verb][0]), anywhere=True)


def with_plain_errors(module: str) -> None:
    """Photos come from anybody, and so do their names, which a terminal may obey."""
    try:
        importlib.import_module(module).main(sys.argv[2:])
    except SeamlineError as error:
        raise SeamlineError(to_terminal(error)) from None
