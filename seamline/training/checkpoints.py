"""The state of an interrupted training: all that it needs to resume as if nothing had happened."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from seamline.base.errors import SeamlineError
from seamline.base.files import whole_file
from seamline.training.trial import tell_progress

State = dict[str, Any]
STATE = "state.pt"


def write_state(folder: Path, state: State) -> None:
    """Replace the folder's state whole; a kill leaves the old one or the new one."""
    with whole_file(folder / STATE) as temporary, temporary.open("wb") as stream:
        torch.save(state, stream)


def read_state(folder: Path) -> State | None:
    """The state of an earlier run; None where there is none.

    Raises:
        SeamlineError: when the file is damaged.
    """
    path = folder / STATE
    if not path.exists():
        return None
    try:
        state: State = torch.load(path, map_location="cpu", weights_only=True)
        state["epoch"], state["history"], state["finished"]
    except Exception as error:  # torch raises a dozen kinds on broken files
        reason = str(error).partition("\n")[0]
        raise SeamlineError(
            f"{path}: the state of an interrupted training cannot be read ({reason[:200]}); "
            f"delete {folder} to train from the start."
        ) from None
    return state


def best_weights(folder: Path, epoch: int) -> Path:
    """Where a training has the weights of its best epoch."""
    return folder / f"best-{epoch:05d}.pt"


def write_epoch(folder: Path, state: State, write_best: Callable[[Path], None] | None, line: str) -> None:
    """Write an epoch's state, and print its line last: an epoch that was printed is not run again.

    Args:
        write_best: writes the weights, where this epoch is the best so far.
    """
    best = best_weights(folder, state["best_epoch"])
    # First the weights, then the state that names them; then the weights that it no longer names are deleted.
    if write_best is not None:
        write_best(best)
    write_state(folder, state)
    for path in folder.glob("best-*.pt"):
        if path != best:
            path.unlink()
    tqdm.write(line)
    tell_progress(state["history"])


class Beside:
    """Does one piece of work after the other in a thread of its own, while the training continues.

    An error of that work is raised by the next call of check() or wait().
    """

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="beside")
        self.under_way: Future[None] | None = None
        self.buffers: dict[tuple[Any, ...], torch.Tensor] = {}

    def copied(self, state: State, device: torch.device) -> Callable[[], State]:
        """Begin to copy a state on this device to the host's memory; what is returned waits for the copy, and gives it.

        The training may change its tensors at once: on a GPU they are copied in their turn, and nothing waits. The copy
        is overwritten by the next one, so the work that reads it has to be waited for first.
        """
        copy: State = to_host(state, self.buffers)
        event = torch.cuda.Event() if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        if event is not None:
            event.record(torch.cuda.current_stream(device))

        def finished() -> State:
            if event is not None:
                event.synchronize()
            return copy

        return finished

    def do(self, work: Callable[[], None]) -> None:
        """Raises what the work before has raised."""
        self.wait()
        self.under_way = self.pool.submit(work)

    def check(self) -> None:
        """Raise what has gone wrong; does not wait."""
        if self.under_way is not None and self.under_way.done():
            self.wait()

    def wait(self) -> None:
        if self.under_way is not None:
            work, self.under_way = self.under_way, None
            work.result()

    def close(self) -> None:
        """Let the work that is under way end, whatever comes of it."""
        self.pool.shutdown()


def to_host(value: Any, buffers: dict[tuple[Any, ...], torch.Tensor], name: tuple[Any, ...] = ()) -> Any:
    """The same value with each tensor in it copied into a buffer of its name, made at its first use.

    Buffers of a GPU's tensors are page-locked, so that the copies need not be waited for.
    """
    if isinstance(value, torch.Tensor):
        buffer = buffers.get(name)
        if buffer is None or (buffer.shape, buffer.dtype, buffer.stride()) != (
            value.shape,
            value.dtype,
            value.stride(),
        ):
            buffer = torch.empty_like(value, device="cpu", pin_memory=value.is_cuda, requires_grad=False)
            buffers[name] = buffer
        return buffer.copy_(value.detach(), non_blocking=True)
    if isinstance(value, dict):
        return {key: to_host(item, buffers, (*name, key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(to_host(item, buffers, (*name, index)) for index, item in enumerate(value))
    return value
