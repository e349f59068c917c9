"""What every stage script needs around its work: plain errors, a quiet environment, an end with its parent."""

from __future__ import annotations

import errno
import io
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import seamline
from seamline.errors import SeamlineError

PROC = Path("/proc")  # Linux's alone
# Environment variable: a process without which our work is in vain, beside the parent.
ENDS_WITH = "SEAMLINE_ENDS_WITH"
# Untracked; nothing in it is needed to reproduce a result. An image that is run read-only brings its own.
SCRATCH = Path(os.environ.get("SEAMLINE_SCRATCH", ".seamline"))


def quiet_environment() -> None:
    """Keep the libraries inside the project: no telemetry, no update checks, no installs, no files in the home.

    openvino's and ultralytics' reporting packages are left out of requirements.txt altogether. Has to run before
    ultralytics, matplotlib, onnxruntime or openvino are imported, and is inherited by child processes.

    Raises:
        SeamlineError: when there is no folder that can be written to.
    """
    scratch = SCRATCH.resolve()
    os.environ["YOLO_CONFIG_DIR"] = str(scratch / "ultralytics")
    os.environ["YOLO_AUTOINSTALL"] = "false"
    os.environ["YOLO_OFFLINE"] = "true"  # also stops ultralytics' usage reports and its look for a newer version
    os.environ["YOLO_VERBOSE"] = "false"
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    os.environ["MPLCONFIGDIR"] = str(scratch / "matplotlib")
    os.environ["MPLBACKEND"] = "Agg"
    try:
        (scratch / "ultralytics").mkdir(parents=True, exist_ok=True)
        (scratch / "matplotlib").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SeamlineError(
            f"{scratch}: cannot be written to ({error.strerror}); name a folder that can in SEAMLINE_SCRATCH."
        ) from None


def end_with_parent() -> None:
    """End this process when its parent is gone.

    `kill -9` of `dvc repro` leaves the stage running; a second `dvc repro` would then race it for the outputs.
    """
    parent = os.getppid()
    end_when(lambda: os.getppid() != parent)


def end_with_named() -> None:
    """End this process when the one named in the environment is gone, whose grandchild it may be."""
    process = os.environ.get(ENDS_WITH)
    if process is not None:
        end_when(lambda: is_gone(int(process)))


def is_gone(process: int) -> bool:
    """Whether a process has ended, also where nobody has asked for its exit status (a zombie).

    Where there is no /proc, as on macOS, a zombie still counts as there.
    """
    if not (PROC / "self" / "stat").exists():
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # another user's
            return False
        return False
    try:
        text = (PROC / str(process) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True
    return text.rpartition(")")[2].split()[0] in ("Z", "X")


def end_when(over: Callable[[], bool]) -> None:
    def watch() -> None:
        while not over():
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="end-when").start()


def end_of_reader() -> bool:
    """Whether what reads our output has ended, as `head` does when it has seen enough; there is nobody to tell then."""
    poll = select.poll()
    poll.register(sys.stdout, select.POLLOUT)  # macOS says nothing where nothing is asked
    if not any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):  # Linux's word, and macOS'
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes what is left when it exits
    return True


def check_own_code() -> None:
    """Refuse to run other code than that of the folder we were started in.

    An environment has one checkout installed. A copy of the project, such as DVC makes for queued experiments, would
    silently run that checkout's code, and its results would be recorded as the copy's.

    Raises:
        SeamlineError: when `seamline` is not the package of the current folder.
    """
    package = Path(seamline.__path__[0])
    if not (Path("seamline").is_dir() and Path("seamline").samefile(package)):
        raise SeamlineError(
            f"seamline comes from {package.parent} and not from this folder; "
            "start stages in the project's top folder as `python -m stages.NAME`."
        )


def run(main: Callable[[], None]) -> None:
    """Run a stage and exit: 0 done, 1 with one sentence on stderr for a user's error, 130 when interrupted."""
    end_with_parent()
    end_with_named()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a log shows lines as they come, and a kill loses none
    try:
        check_own_code()
        quiet_environment()
        main()
    except SeamlineError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(1)
    except BrokenPipeError:
        if not end_of_reader():
            raise
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror}; nothing half-written is left.", file=sys.stderr, flush=True)
        sys.exit(1)
    except KeyboardInterrupt:
        print(
            "interrupted; nothing half-written is left, run the same command again to go on",
            file=sys.stderr,
            flush=True,
        )
        sys.exit(130)
