"""All that Seamline replaces in ultralytics, and a check that the installed version still has it.

ultralytics has no setting for any of this. Nothing is replaced on import, and what is replaced is restored afterwards.
A name that a new version no longer has, or no longer looks up, would be replaced without any effect: images would be
rewritten or a stranger's weights executed, and nobody would notice. So every name is checked before it is replaced.
"""

from __future__ import annotations

import importlib
import inspect
import operator
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

from seamline.base.errors import SeamlineError

_opening = threading.RLock()


class Replaced(NamedTuple):
    """A name of ultralytics' that we replace or override."""

    module: str
    name: str  # a function, Class.method, a CONSTANT, or what a trainer sets and does by a name
    user: str  # the function of the same module that looks the name up
    parameters: tuple[str, ...] | None = None  # of a function


UTILS, TRAINER = "ultralytics.data.utils", "ultralytics.engine.trainer"
LOOP, SETUP, TRAIN = "BaseTrainer._do_train", "BaseTrainer._setup_train", "BaseTrainer.train"
PIPELINE = "BaseTrainer._build_train_pipeline"
OPTIMIZER = ("self", "model", "name", "lr", "momentum", "decay", "iterations")
# They re-encode JPEGs with bytes after their end, in place; download a font for plots that are not drawn; and download
# another model to see whether mixed precision works on the GPU.
FUNCTIONS = (
    Replaced(UTILS, "_replace_image", "check_image", ("im_file", "write")),
    Replaced(UTILS, "check_font", "check_det_dataset", ("font",)),
    Replaced(TRAINER, "check_amp", SETUP, ("model",)),
)
# What seamline.training.yolo_trainer overrides. Some are private: without a check a new name would go unnoticed.
METHODS = (
    Replaced(TRAINER, "BaseTrainer._do_train", TRAIN, ("self",)),
    Replaced(TRAINER, "BaseTrainer._setup_ddp", LOOP, ("self",)),
    Replaced(TRAINER, "BaseTrainer._setup_train", LOOP, ("self",)),
    Replaced(TRAINER, "BaseTrainer.run_callbacks", TRAIN, ("self", "event")),
    Replaced(TRAINER, "BaseTrainer.setup_model", SETUP, ("self",)),
    Replaced(TRAINER, "BaseTrainer.resume_training", SETUP, ("self", "ckpt")),
    Replaced(TRAINER, "BaseTrainer.build_optimizer", PIPELINE, OPTIMIZER),
    Replaced(TRAINER, "BaseTrainer.preprocess_batch", LOOP, ("self", "batch")),
    Replaced(TRAINER, "BaseTrainer.validate", LOOP, ("self",)),
)
# What its loop does as ultralytics' does, so that both compute the same.
CALLED = (
    Replaced(TRAINER, "BaseTrainer._get_warmup_iterations", LOOP, ("self", "num_batches")),
    Replaced(TRAINER, "BaseTrainer._model_train", LOOP, ("self",)),
    Replaced(TRAINER, "BaseTrainer._close_dataloader_mosaic", LOOP, ("self",)),
    Replaced(TRAINER, "BaseTrainer._clear_memory", LOOP, ("self", "threshold")),
    Replaced(TRAINER, "BaseTrainer.optimizer_step", LOOP, ("self",)),
)
LOOKED_UP = (Replaced(TRAINER, "teardown", TRAIN),)
PARALLEL = Replaced(TRAINER, "DistributedDataParallel", SETUP)  # of torch.nn.parallel
TRAINING = (*FUNCTIONS, *METHODS, *CALLED, *LOOKED_UP, PARALLEL)
# Constants that it reads from the environment once, when it is imported, which other code may have done before us.
RESTRICTED = Replaced("ultralytics.nn.tasks", "SAFE_LOAD", "torch_safe_load")
INSTALLS = Replaced("ultralytics.utils.checks", "AUTOINSTALL", "check_requirements")


@contextmanager
def replaced_for_training(weights: Path) -> Iterator[None]:
    """While the block lasts, ultralytics leaves the data as they are and downloads nothing by itself.

    Args:
        weights: the folder where it looks for weights, and downloads them to.

    Raises:
        SeamlineError: when the installed version lacks something that is replaced, or that a trainer overrides.
    """
    check_replaced(TRAINING)
    from ultralytics.utils import SETTINGS

    weights.mkdir(parents=True, exist_ok=True)
    # On a CPU mixed precision would be bf16.
    functions: tuple[Callable[..., Any], ...] = (nothing, nothing, lambda model: next(model.parameters()).is_cuda)
    before = SETTINGS["weights_dir"]
    with ExitStack() as stack:
        for one, function in zip(FUNCTIONS, functions, strict=True):
            stack.enter_context(replaced(one, function))
        SETTINGS["weights_dir"] = str(weights)
        try:
            yield
        finally:
            SETTINGS["weights_dir"] = before


def nothing(*_: Any) -> None:
    """In place of a function whose work is not wanted."""


@contextmanager
def replaced_for_cpus() -> Iterator[None]:
    """While the block lasts, ultralytics lets several processes train on CPUs, where it names a GPU for each."""
    here = PARALLEL._replace(module="torch.nn.parallel")
    original = importlib.import_module(here.module).DistributedDataParallel

    def without_gpu(model: Any, device_ids: Any = None, **settings: Any) -> Any:
        return original(model, **settings)

    with replaced(here, without_gpu):
        yield


@contextmanager
def replaced_for_opening(restricted: bool) -> Iterator[None]:
    """While the block lasts, ultralytics installs no package for a file, and where it is restricted executes none.

    One thread at a time, or the values would be restored in the wrong order.
    """
    values = {INSTALLS: False, **({RESTRICTED: True} if restricted else {})}
    check_replaced(values)
    with _opening, ExitStack() as stack:
        for one, value in values.items():
            stack.enter_context(replaced(one, value))
        yield


@contextmanager
def replaced(one: Replaced, value: Any) -> Iterator[None]:
    module = importlib.import_module(one.module)
    before = getattr(module, one.name)
    setattr(module, one.name, value)
    try:
        yield
    finally:
        setattr(module, one.name, before)


def check_replaced(names: Iterable[Replaced]) -> None:
    """Raises SeamlineError, naming the version, when ultralytics lacks one of these, or uses it in another way."""
    import ultralytics

    for one in names:
        if lack := what_is_lacking(one):
            raise SeamlineError(
                f"ultralytics {ultralytics.__version__}: {lack}, which Seamline relies on; install the version that "
                "requirements.txt names."
            )


def what_is_lacking(one: Replaced) -> str | None:
    """What this ultralytics does not have of a name, as half a sentence; None where all is as expected."""
    module = importlib.import_module(one.module)
    wanted = [one.user, one.name] if one.parameters is not None or one.name.isupper() else [one.user]
    for name in wanted:
        try:
            operator.attrgetter(name)(module)
        except AttributeError:
            return f"{one.module} has no {name}"
    user = inspect.unwrap(operator.attrgetter(one.user)(module))
    if one.name.rpartition(".")[2] not in names_in(user.__code__):
        return f"{one.user} of {one.module} does not use {one.name}"
    if one.parameters is not None:
        given = tuple(inspect.signature(operator.attrgetter(one.name)(module)).parameters)
        if given != one.parameters:
            return f"{one.name} of {one.module} takes ({', '.join(given)}) and not ({', '.join(one.parameters)})"
    return None


def names_in(code: CodeType) -> set[str]:
    """Names that a function looks up, and texts in it, such as the names of events."""
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, str):
            found.add(constant)
        elif isinstance(constant, CodeType):
            found |= names_in(constant)
    return found
