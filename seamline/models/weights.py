"""PyTorch weights and descriptions of models, opened as data: what somebody else put into one is not executed.

A .pt file is a pickle, which can name any function of Python and have it called; a description in YAML names layers and
an activation, which ultralytics would evaluate. Both are taken in the restricted way that torch and ultralytics offer.
ULTRALYTICS_SAFE_LOAD=0 is the user's word that they may run code.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle  # taken apart, and nothing of it called  # nosec B403
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seamline.base.errors import SeamlineError
from seamline.base.process import SAFE_LOAD, quiet_ultralytics
from seamline.models.model_facts import YOLO
from seamline.models.ultralytics_patches import replaced_for_opening

HOW_TO_TRUST = f"set {SAFE_LOAD}=0 if you trust whoever made it: its code is run then"


def load_weights(path: Path, device: str = "cpu", fuse: bool = False) -> tuple[Any, dict[str, Any]]:
    """The model in an ultralytics .pt file, ready for inference, and the rest of what is in the file.

    Raises:
        SeamlineError: when it holds anything but layers and numbers, unless it is trusted.
        Exception: of any kind, when it is damaged or something else.
    """
    quiet_ultralytics()
    from ultralytics.nn.tasks import load_checkpoint

    with opened_as_data(path):
        model, checkpoint = load_checkpoint(str(path), device=device, fuse=fuse)
    return model, checkpoint


@contextlib.contextmanager
def opened_as_data(path: Path) -> Iterator[None]:
    """While the block lasts, ultralytics reads these weights, or this description, in its restricted way.

    It reads the environment once, when it is imported, which somebody else's code may have done before us. Nor does it
    install a package that the file asks for.

    Raises:
        SeamlineError: when there is more than data in it, or this ultralytics or torch has no such way.
    """
    import torch
    import ultralytics
    from ultralytics.nn import tasks

    if is_trusted():
        with replaced_for_opening(restricted=False):
            yield
        return
    if not hasattr(tasks, "SAFE_LOAD") or not hasattr(torch.serialization, "get_unsafe_globals_in_checkpoint"):
        raise SeamlineError(
            f"{path}: ultralytics {ultralytics.__version__} with torch {torch.__version__} cannot open it as data "
            f"only; install newer ones, or {HOW_TO_TRUST}."
        )
    if path.suffix == ".pt" and path.is_file():
        check_pickle(path)
    with replaced_for_opening(restricted=True):
        try:
            yield
        except TypeError as error:
            if refused := refused_part(error):
                raise not_data(path, f"it names {refused}") from None
            raise


def refused_part(error: TypeError) -> str | None:
    """What ultralytics took exception to when it read something in its restricted way; None: it was something else."""
    if isinstance(error.__cause__, pickle.UnpicklingError):
        named = re.search(r"(?:GLOBAL|unsafe) (\S+(?: '\w+'\))?)", str(error.__cause__))
        return named[1] if named else "more than layers and numbers"
    named = re.search(r"(\w+ '.*') .*restricted", str(error))  # of a description
    return named and named[1]


# What torch's reader and pickle raise for a file that is damaged, or that is something else.
UNREADABLE = (
    RuntimeError, pickle.UnpicklingError, EOFError, AttributeError, ImportError, LookupError, TypeError, ValueError,
)  # fmt: skip


def is_trusted() -> bool:
    """Whether the user has said that weights and descriptions may run code. No value but a plain no says so."""
    return os.environ.get(SAFE_LOAD, "").strip().lower() in ("0", "false", "no", "off")


def not_data(path: Path, what: str) -> SeamlineError:
    return SeamlineError(f"{path}: is opened as data only, and {what}; {HOW_TO_TRUST}.")


def check_pickle(path: Path) -> None:
    """Look at what a .pt file would have called, and call nothing.

    torch lets a file call the classes that ultralytics permits, with arguments of its choice: models that fetch their
    parts by name, from anywhere. A file that torch.save wrote makes layers without calling them, so none is refused.

    Raises:
        SeamlineError: when it is not torch.save's kind of file, or calls a layer's class.
        Exception: of any kind, when it is damaged.
    """
    import torch

    with path.open("rb") as stream:
        begin = stream.read(4)
    if begin[:1] == b"\x80":
        raise not_data(path, "it is a plain pickle, which torch.save has not written since 2020")
    if begin != b"PK\x03\x04":
        raise TypeError("the file is empty, cut off, or was not written by torch.save")
    # torch's own reader: another one might find another member of that name.
    reader = torch._C.PyTorchFileReader(str(path))
    if "data.pkl" not in reader.get_all_records():
        return  # nothing is unpickled; ultralytics says what it is
    for module, name in sorted(calls_of(reader.get_record("data.pkl"))):
        if module.startswith(("torch.nn.modules", "ultralytics")):
            raise not_data(path, f"it calls {module}.{name}")


def weights_to_family(path: Path) -> str:
    """What a .pt file has under "family", as text; YOLO's, which are ultralytics' own, have nothing there.

    What cannot be read is left to the reader of YOLO's, which says what is wrong with it.
    """
    import torch

    try:
        reader = torch._C.PyTorchFileReader(str(path))
        content, _ = looked_through(reader.get_record("data.pkl"))
    except UNREADABLE:
        return YOLO
    family = content.get("family") if isinstance(content, dict) else None
    return family if isinstance(family, str) else YOLO


def calls_of(data: bytes) -> set[tuple[str, str]]:
    """What a pickle would have called with arguments (module, name); nothing of it is imported or called."""
    return looked_through(data)[1]


def looked_through(data: bytes) -> tuple[Any, set[tuple[str, str]]]:
    """What is in a pickle, with stand-ins for all that is not plain data, and what it would have called."""
    called: set[tuple[str, str]] = set()

    class Named(type):
        """Stands for anything that the pickle names; called, it gives an object that takes what is put into it."""

        def __call__(cls, *arguments: Any) -> Any:
            if arguments:
                called.add((cls.__module__, cls.__qualname__))
            return super().__call__()

    class Empty(metaclass=Named):
        def __new__(cls, *_: Any) -> Any:
            return object.__new__(cls)

        def __call__(self, *arguments: Any) -> Any:
            return self

        def __setstate__(self, state: Any) -> None: ...
        def __setitem__(self, key: Any, value: Any) -> None: ...
        def append(self, value: Any) -> None: ...
        def extend(self, values: Any) -> None: ...
        def add(self, value: Any) -> None: ...

    class Reader(pickle._Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            return Named(name, (Empty,), {"__module__": module, "__qualname__": name})

        def persistent_load(self, pid: Any) -> Any:
            return Empty()

    return Reader(io.BytesIO(data)).load(), called
