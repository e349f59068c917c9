"""A training in a process of its own, so that it is the same whatever another family's library set before it."""

from __future__ import annotations

import multiprocessing
import signal
from multiprocessing.connection import Connection
from pathlib import Path

from seamline.base.errors import SeamlineError
from seamline.base.process import end_with_parent
from seamline.experiments.compute import counted_compute
from seamline.params.loading.loader import Params
from seamline.training.run import finished_training, identity_of_params


def train_alone(params: Params, split: Path, labelled: Path, scratch: Path, most: int) -> None:
    """Have a process make and store the training of these parameters, and note what it took.

    Args:
        most: how many finished trainings are stored at most.

    Raises:
        SeamlineError: what the training raises, or when its process is killed.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    # Not a daemon: on a GPU a training starts processes that load images.
    process = context.Process(target=store, args=(theirs, params, split, labelled, scratch, most))
    process.start()
    theirs.close()
    try:
        sentence = received(ours)
        process.join()
        if sentence is not None:
            raise SeamlineError(sentence)
        if process.exitcode:
            raise SeamlineError(
                f"families: the process of a training ended by itself, exit code {process.exitcode} (-9: most likely "
                "out of memory); what it last printed is above. The same command resumes."
            )
    finally:
        process.kill()
        ours.close()


def received(ours: Connection) -> str | None:
    """The sentence that the process sends, or None when it ends without one."""
    try:
        return str(ours.recv())
    except EOFError:
        return None


def store(theirs: Connection, params: Params, split: Path, labelled: Path, scratch: Path, most: int) -> None:
    """What the process does; an error is sent as its sentence."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle, without which this ends
    end_with_parent()
    try:
        key = identity_of_params(params, split, labelled).key
        with counted_compute(scratch, key), finished_training(params, split, labelled, scratch, most):
            pass
    except SeamlineError as error:
        theirs.send(str(error))
