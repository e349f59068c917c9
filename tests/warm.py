"""Stages, verbs and DVC, which tests start hundreds of times, from a process that has imported before what takes long.

multiprocessing's forkserver imports DVC, NumPy and the like once. Each run is a fork of it, a process of its own that
goes on as a new Python would: with the working folder, the environment and the arguments it is given, output to files
of its own, and the script as __main__, or DVC's own main(). Not for what is timed, or asked what it imports or reaches.
torch is left out, since a fork of a process that has it takes longer than DVC's start; see also_import().
"""

from __future__ import annotations

import atexit
import functools
import gc
import multiprocessing
import os
import platform
import runpy
import site
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests import guard

# By stages and by DVC's commands. Folders and switches they read from the environment on use; but see become().
IMPORTS = [
    "cv2", "dulwich.porcelain", "dvc.cachemgr", "dvc.cli.parser", "dvc.data_cloud", "dvc.render.match",
    "dvc.repo.experiments.executor.local", "dvc.repo.experiments.queue.celery", "dvc.repo.experiments.queue.tempdir",
    "dvc.repo.experiments.queue.workspace", "dvc.utils.hydra", "dvc_http", "dvc_s3", "hydra", "jinja2",
    "matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg", "matplotlib.pyplot", "msgspec", "networkx",
    "numpy", "pycocotools.mask", "pygit2", "ruamel.yaml", "s3fs", "scipy.sparse.csgraph", "scipy.special",
    "tqdm", "yaml",
]  # fmt: skip


guard.switch_on()  # also for what is forked from the process that imports this module first


def also_import(*names: str) -> None:
    """Before the first start in a process, which has a server of its own."""
    IMPORTS.extend(names)


@functools.cache
def server() -> ForkServerContext | SpawnContext:
    if platform.system() == "Darwin":  # whose own libraries end a fork that uses them: each run imports anew
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, *IMPORTS])
    return context


def can_run(command: Sequence[str]) -> bool:
    """`dvc ARGUMENTS`, `python -m stages.NAME ARGUMENTS` or `python -m seamline VERB ARGUMENTS`."""
    if command[0] == "dvc":
        return True
    return list(command[:2]) == ["python", "-m"] and (command[2] == "seamline" or command[2].startswith("stages."))


def start(command: Sequence[str], cwd: Path, environment: Mapping[str, str], out: Path, err: Path) -> BaseProcess:
    """A command that can_run() is true of, with its output to two files."""
    assert can_run(command), command
    process = server().Process(target=become, args=(list(command), cwd, dict(environment), (out, err)))
    process.start()
    return process


def run(
    command: Sequence[str], cwd: Path, environment: Mapping[str, str] = os.environ
) -> subprocess.CompletedProcess[str]:
    """As subprocess.run() with captured text and nothing to read."""
    with tempfile.TemporaryDirectory() as folder:
        outputs = Path(folder, "out"), Path(folder, "err")
        process = start(command, cwd, environment, *outputs)
        process.join()
        assert process.exitcode is not None
        out, err = (path.read_text() for path in outputs)
    return subprocess.CompletedProcess(command, process.exitcode, out, err)


def become(words: list[str], cwd: Path, environment: dict[str, str], outputs: tuple[Path, Path]) -> None:
    gc.freeze()  # so that what was imported is not copied page by page when the collector looks at it
    for number, path in enumerate(outputs, 1):
        with path.open("wb") as stream:
            os.dup2(stream.fileno(), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.dont_write_bytecode = bool(environment.get("PYTHONDONTWRITEBYTECODE"))
    module = "" if words[0] == "dvc" else words[2]
    arguments = words[3:] if module else words[1:]
    dvc = Path(sys.executable).with_name("dvc")
    sys.argv = ["-m" if module else str(dvc), *arguments]
    sys.orig_argv = [sys.executable, *(words[1:] if module else sys.argv)]
    given = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    standard = [*sysconfig.get_paths().values(), sysconfig.get_config_var("DESTSHARED")]
    installed = [path for path in sys.path if path in standard]
    sys.path[:] = [str(Path.cwd() if module else dvc.parent), *given, *installed]
    site.addpackage(str(guard.PROJECT / "dvc_hint"), "seamline_dvc_hint.pth", set())
    import fsspec.config

    fsspec.config.set_conf_env(fsspec.config.conf)  # which it has done already, with another environment
    try:
        if not module:
            from dvc.cli import main

            sys.exit(main(arguments))
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()
