"""Servers as processes, what their trees of processes hold in memory, and wrk, which asks them."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from seamline.base.errors import SeamlineError

SCRIPT = Path(__file__).with_name("post.lua")
STARTS_WITHIN_S = 120
ENDS_WITHIN_S = 30
WAITS_S = 30  # wrk, for one answer
MEGABYTE = 1e6


class Service(NamedTuple):
    """A server that runs."""

    url: str  # that photos are posted to
    process: subprocess.Popen[bytes]


@contextlib.contextmanager
def started(command: Sequence[str], photo: Path, log: Path, packages: Path | None = None) -> Iterator[Service]:
    """A server of this project's Python, once it has answered a photo.

    Args:
        command: what follows `python -m`; --port is added.
        packages: a folder of further packages that it may import.

    Raises:
        SeamlineError: when it ends or does not answer; its log is named.
    """
    port = free_port()
    environment = {**os.environ} if packages is None else {**os.environ, "PYTHONPATH": str(packages.resolve())}
    with log.open("w") as stream:
        words = [sys.executable, "-m", *command, "--port", str(port)]
        process = subprocess.Popen(words, stdout=stream, stderr=stream, env=environment)
        try:
            service = Service(f"http://127.0.0.1:{port}/v1/predict", process)
            wait_for(service, photo, log)
            yield service
        finally:
            end_tree(process)


def ready_s(command: Sequence[str], log: Path, scratch: Path) -> float:
    """Seconds until a server of this project's Python prints that it is ready; then it is ended.

    Args:
        scratch: folder for what it stores.

    Raises:
        SeamlineError: when it ends before that; its log is named.
    """
    begun = time.perf_counter()
    words = [sys.executable, "-m", *command, "--port", "0"]
    environment = {**os.environ, "SEAMLINE_SCRATCH": str(scratch.resolve())}
    with (
        log.open("w") as stream,
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=stream, env=environment) as process,
    ):
        try:
            assert process.stdout is not None
            if not process.stdout.readline().startswith(b"ready on "):
                raise SeamlineError(f"{log}: the server did not get ready; the file says why.")
            return time.perf_counter() - begun
        finally:
            end_tree(process)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def wait_for(service: Service, photo: Path, log: Path) -> None:
    begun = time.monotonic()
    while service.process.poll() is None and time.monotonic() - begun < STARTS_WITHIN_S:
        try:
            answer_to(service, photo)
        except OSError:  # it does not listen yet, or has no model yet and says so
            time.sleep(0.2)
        else:
            return
    raise SeamlineError(f"{log}: the server does not answer; the file says why.")


def end_tree(process: subprocess.Popen[bytes]) -> None:
    """End a server and what it has started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        _, *children = all_of_it = tree(process)
        for one in all_of_it:
            one.resume()
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(ENDS_WITHIN_S)
        for left in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()
    process.kill()
    process.wait()


def memory_mb(process: subprocess.Popen[bytes]) -> float:
    """Of a tree of processes, as if nothing else ran: what several of them share, files as libraries too, counts once.

    Where the system does not tell what is shared, as macOS, the sum of what is resident.
    """
    total = 0
    files: dict[str, int] = {}
    for one in tree(process):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if not hasattr(one, "memory_maps"):
                total += one.memory_info().rss
                continue
            for mapped in one.memory_maps():
                if mapped.path.startswith("["):  # [heap], [anon]: shared after a fork alone
                    total += mapped.pss
                else:
                    files[mapped.path] = max(files.get(mapped.path, 0), mapped.rss)
    return (total + sum(files.values())) / MEGABYTE


def tree(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    root = psutil.Process(process.pid)
    return [root, *root.children(recursive=True)]


@contextlib.contextmanager
def memory_watched(process: subprocess.Popen[bytes], every_s: float) -> Iterator[list[float]]:
    """MB of a tree of processes, added at once and as time passes."""
    found: list[float] = []
    over = threading.Event()

    def watch() -> None:
        found.append(memory_mb(process))
        while not over.wait(every_s):
            found.append(memory_mb(process))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


class Load(NamedTuple):
    """What wrk saw. Latencies are of whole answers, in milliseconds; p50, p95 and p99 are of all of them."""

    answered_s: float  # photos in a second that were answered with 200
    p50: float
    p95: float
    p99: float
    statuses: dict[str, int]
    cut: int  # connections that were refused or broke, and answers that did not come
    answers: list[float]  # latencies of the 200s, where the server repeats X-Request-Id
    refusals: list[float]  # of all others


def load(
    service: Service, photos: Sequence[Path], clients: int, seconds: float, rate: float = 0, batch: int = 1
) -> Load:
    """Have wrk post photos in turns from so many connections.

    Args:
        rate: requests that begin in a second, whatever the answers take; 0: each client asks when it has its answer.
        batch: photos in a request.

    Raises:
        SeamlineError: when wrk fails.
    """
    with tempfile.NamedTemporaryFile("r", suffix=".txt") as log:
        words = ["wrk", "-t1", f"-c{clients}", f"-d{max(round(seconds), 1)}s", f"--timeout={WAITS_S}s", f"-s{SCRIPT}"]
        words += [service.url, "--", log.name, str(rate), str(batch), *map(str, photos)]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode or service.process.poll() is not None:
            raise SeamlineError(f"wrk has failed: {(done.stderr or done.stdout).strip()[-500:]}")
        said = json.loads(done.stdout.strip().splitlines()[-1])
        lines = [line.split() for line in log if line.endswith("\n")]
    latencies: dict[bool, list[float]] = {True: [], False: []}
    statuses: dict[str, int] = {}
    for status, begun, ended in lines:
        statuses[status] = statuses.get(status, 0) + 1
        if begun != "0":
            latencies[status == "200"].append(1000 * (float(ended) - float(begun)))
    answered_s = batch * statuses.get("200", 0) / said["seconds"]
    return Load(
        answered_s, said["p50_ms"], said["p95_ms"], said["p99_ms"], statuses, said["cut"], latencies[True],
        latencies[False],
    )  # fmt: skip


def percentile(values: Sequence[float], percent: int) -> float:
    """nan where there are no values."""
    if len(values) < 2:
        return values[0] if values else float("nan")
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def answer_to(service: Service, photo: Path) -> str:
    """The text of one answer, to see that the server works at all."""
    boundary = "one-photo"
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    ).encode() + photo.read_bytes()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    request = urllib.request.Request(service.url, body + f"\r\n--{boundary}--\r\n".encode(), headers)
    with urllib.request.urlopen(request, timeout=WAITS_S) as answer:
        text: str = answer.read().decode()
        return text
