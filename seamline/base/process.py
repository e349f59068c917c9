"""What every stage needs around its work: plain errors, quiet libraries, and an end when its parent ends."""

from __future__ import annotations

import atexit
import errno
import functools
import io
import os
import select
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seamline.base.errors import SeamlineError

PROC = Path("/proc")  # Linux's alone
# Environment variable: a process besides the parent without which our work is useless.
ENDS_WITH = "SEAMLINE_ENDS_WITH"
# Untracked; nothing in it is needed to reproduce a result. An image that is run read-only brings its own.
SCRATCH = Path(os.environ.get("SEAMLINE_SCRATCH", ".seamline"))
# Read when these libraries are imported, or when they would report; inherited by child processes.
QUIET = {
    "YOLO_AUTOINSTALL": "false",
    "YOLO_OFFLINE": "true",  # also stops ultralytics' usage reports and its look for a newer version
    "YOLO_VERBOSE": "false",
    "ORT_DISABLE_TELEMETRY": "1",
    "DVC_NO_ANALYTICS": "1",
    "ITERATIVE_DO_NOT_TRACK": "1",  # of what DVC brings
    "DO_NOT_TRACK": "1",  # what others have agreed on
}
# Of ultralytics': whether weights and descriptions of models are read as data (seamline/models/weights.py). It is for
# the user to switch off, so a value that is set is kept.
SAFE_LOAD = "ULTRALYTICS_SAFE_LOAD"


def quiet_environment() -> None:
    """Keep the libraries in place: no telemetry, no update checks, no installs, no files in the home.

    Has to run before ultralytics, matplotlib, onnxruntime or openvino are imported.

    Raises:
        SeamlineError: when there is no folder that can be written to.
    """
    scratch = library_folder()
    if scratch != SCRATCH.resolve():
        delete_when_terminated(scratch)
    os.environ.update(QUIET)
    os.environ[SAFE_LOAD] = os.environ.get(SAFE_LOAD) or "1"
    os.environ["YOLO_CONFIG_DIR"] = str(scratch / "ultralytics")
    os.environ["MPLCONFIGDIR"] = str(scratch / "matplotlib")
    os.environ["MPLBACKEND"] = "Agg"
    without_openvino_telemetry()
    try:
        (scratch / "ultralytics").mkdir(parents=True, exist_ok=True)
        (scratch / "matplotlib").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SeamlineError(
            f"{scratch}: cannot be written to ({error.strerror}); name a folder that can in SEAMLINE_SCRATCH."
        ) from None


def without_openvino_telemetry() -> None:
    """Have openvino and nncf find no package to report with, as where requirements.txt was installed.

    There is no setting for it: openvino reports that it was imported, to Google, unless a file in the home forbids it.
    Where somebody else's code has imported that package before, that was their decision.
    """
    modules: dict[str, Any] = sys.modules  # None: an import of it fails as if it were not there
    modules.setdefault("openvino_telemetry", None)


def quiet_ultralytics() -> None:
    """For those who use a Detector in their own process: what ultralytics would write and send, and nothing else."""
    if "ultralytics" not in sys.modules:
        os.environ.update({name: value for name, value in QUIET.items() if name.startswith("YOLO_")})
        os.environ.setdefault("YOLO_CONFIG_DIR", str(library_folder() / "ultralytics"))


def library_folder() -> Path:
    """Where libraries keep their settings and caches: in the project's scratch folder, elsewhere in a temporary one."""
    if "SEAMLINE_SCRATCH" in os.environ or is_project(Path()):
        return SCRATCH.resolve()
    return temporary_folder()


def project_scratch() -> Path | None:
    """Where a project stores what spares later processes work; None elsewhere, as in a container of little room."""
    return SCRATCH.resolve() if is_project(Path()) else None


def is_project(folder: Path) -> bool:
    """Whether this code is the folder's own, and not another checkout's or an installed one."""
    package = folder / "seamline"
    return package.is_dir() and package.samefile(Path(__file__).parent.parent)


@functools.cache
def temporary_folder() -> Path:
    """A folder that is deleted when this process ends; one for each process.

    Raises:
        SeamlineError: when no folder for temporary files can be written to.
    """
    try:
        folder, process = Path(tempfile.mkdtemp(prefix="seamline-")), os.getpid()
    except FileNotFoundError as error:
        raise SeamlineError(f"{error.strerror}; name a folder that can be written to in TMPDIR.") from None

    def remove() -> None:
        if os.getpid() == process:  # and not a fork of it
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder


def delete_when_terminated(folder: Path) -> None:
    """Also where a process is asked to end (SIGTERM), which Python otherwise obeys without ending as usual."""
    process = os.getpid()

    def end(number: int, _: object) -> None:
        if os.getpid() == process:
            shutil.rmtree(folder, ignore_errors=True)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        os._exit(128 + number)  # a container's first process, which no signal of its own ends

    signal.signal(signal.SIGTERM, end)


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
    poll.register(sys.stdout, select.POLLOUT)  # macOS reports nothing unless it is asked for an event
    if not any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):  # Linux says ERR, macOS HUP
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes the rest when it exits
    return True


def check_own_code() -> None:
    """Refuse to run other code than that of the folder we were started in.

    An environment has one checkout installed. A copy of the project, such as DVC makes for queued experiments, would
    silently run that checkout's code, and its results would be recorded as the copy's.

    Raises:
        SeamlineError: when `seamline` is not the package of the current folder.
    """
    if not is_project(Path()):
        raise SeamlineError(
            f"seamline comes from {Path(__file__).parent.parent.parent} and not from this folder; "
            "start it in the project's top folder: python -m stages.NAME, python -m seamline VERB"
        )


def run(main: Callable[[], None], anywhere: bool = False, writes: bool = True) -> None:
    """Run a stage or a tool and exit: 0 done, 1 with one sentence on stderr for a user's error, 130 when interrupted.

    Args:
        main: what it does.
        anywhere: it may be started in any folder, with the code of another.
        writes: it may make the folders in which libraries keep their settings.
    """
    end_with_parent()
    end_with_named()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A log shows lines as they come, and a kill loses none; a file's name need not be text.
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    try:
        if not anywhere:
            check_own_code()
        if writes:
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
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.ENOLCK):
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror}; nothing half-written is left.", file=sys.stderr, flush=True)
        sys.exit(1)
    except KeyboardInterrupt:
        print(
            "interrupted; nothing half-written is left, run the same command again to resume",
            file=sys.stderr,
            flush=True,
        )
        sys.exit(130)
