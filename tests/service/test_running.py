"""The service as a process: how it starts, what it leaves on the disk and in the log, and how it ends."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.service.held import until
from tests.service.served import Served, has_ended, photo_request, read_reply, request, served

KEY = "a-key-of-the-tests"
# Says which files Python opens for writing, once the service is ready.
SPY = """
import os, sys

def seen(event, arguments):
    if event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        os.write(2, f"opened for writing: {arguments[0]}\\n".encode())
    elif event in ("os.mkdir", "os.rename", "os.remove", "os.link", "os.symlink", "tempfile.mkstemp", "shutil.move"):
        os.write(2, f"{event}: {arguments}\\n".encode())

sys.addaudithook(seen)
"""


@pytest.fixture(scope="module")
def model(untrained: Any) -> Path:
    found: Path = untrained.models()["openvino"]
    return found


@pytest.fixture(scope="module")
def photo(untrained: Any) -> bytes:
    data: bytes = untrained.images()[0].read_bytes()
    return data


def test_nothing_is_written_and_the_log_holds_no_secret(model: Path, photo: bytes, tmp_path: Path) -> None:
    folders = {name: tmp_path / name.lower() for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "PYTHONPATH", "cwd")}
    for folder in folders.values():
        folder.mkdir()
    (folders["PYTHONPATH"] / "sitecustomize.py").write_text(SPY)
    (tmp_path / "keys.txt").write_text(f"# of the tests\n{KEY}\n")
    environment = {name: str(folder) for name, folder in folders.items() if name.isupper()}
    project = Path(__file__).parent.parent.parent
    environment["PYTHONPATH"] += os.pathsep + str(project)
    options = ("--keys", str(tmp_path / "keys.txt"), "--access-log")
    with served(model, folders["cwd"], *options, **environment, PYTHONDONTWRITEBYTECODE="1") as service:
        begun, before = len(service.log.read_text()), sorted(tmp_path.rglob("*"))
        known = {"X-API-Key": KEY, "X-Request-Id": "the-id-of-the-caller"}
        assert service.ask(photo_request(photo, "/v1/predict?classes=trousers", known)).status == 200
        assert service.ask(photo_request(photo)).status == 401
        large = base64.b64encode(photo * 40).decode()  # beyond what is taken apart at once
        body = json.dumps({"image": {"base64": large, "name": "name-of-a-photo"}}).encode()
        assert service.ask(request("POST", "/v1/predict", known, body)).status == 415
        assert service.ask(request("POST", "/v1/predict", {**known, "Content-Type": "application/json"}, body)).status
        assert service.ask(request("GET", "/a-path?a=query", {**known, "Host": "evil.example"})).status == 404
        assert service.ask(b"\0\0\0\0").status == 400
        until(lambda: service.log.read_text().count("\n") >= 5)
        log = service.log.read_text()[begun:]
        assert sorted(tmp_path.rglob("*")) == before
    assert "POST predict 200" in log
    assert "the-id-of-the-caller" in log
    assert "opened for writing" not in log
    for secret in (KEY, "trousers", large[:20], "name-of-a-photo", "a-path", "query", "evil", "os."):
        assert secret not in log
    assert [path.name for path in folders["cwd"].iterdir()] == ["log"]


def test_a_project_stores_what_was_compiled_and_the_next_start_answers_the_same(
    model: Path, photo: bytes, tmp_path: Path
) -> None:
    (tmp_path / "seamline").symlink_to(Path(__file__).parent.parent.parent / "seamline")
    found, written = [], []
    for _ in range(2):
        with served(model, tmp_path) as service:
            found.append(json.loads(service.ask(photo_request(photo)).body)["images"][0]["instances"])
        [file] = (tmp_path / ".seamline" / "openvino").iterdir()
        written.append(file.stat().st_mtime_ns)
    assert found[0]
    assert found[0] == found[1]
    assert written[0] == written[1]


@contextlib.contextmanager
def half_asked(model: Path, folder: Path, photo: bytes) -> Iterator[tuple[Served, Any]]:
    """A service with one request whose last byte has not come, and one connection that is idle."""
    with served(model, folder) as service, service.connect() as connection, service.connect() as idle:
        idle.sendall(request())
        assert read_reply(idle).status == 200
        connection.sendall(photo_request(photo)[:-1])
        time.sleep(0.2)
        yield service, connection


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_what_is_under_way_be_answered(
    model: Path, photo: bytes, tmp_path: Path, signal_number: int
) -> None:
    with half_asked(model, tmp_path, photo) as (service, connection):
        service.process.send_signal(signal_number)
        until(lambda: refuses(service))
        assert service.process.poll() is None
        connection.sendall(photo[-1:])
        reply = read_reply(connection)
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        assert has_ended(connection)
        begun = time.monotonic()
        assert service.process.wait(20) == 0
        assert time.monotonic() - begun < 10
        assert service.process.stdout is not None
        assert service.process.stdout.read() == "stopped; what was under way has been answered\n"
        assert service.log.read_text() == ""


def refuses(service: Served) -> bool:
    try:
        service.connect(1).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_second_signal_ends_at_once(model: Path, photo: bytes, tmp_path: Path) -> None:
    with half_asked(model, tmp_path, photo) as (service, connection):
        service.process.terminate()
        until(lambda: refuses(service))
        service.process.terminate()
        assert service.process.wait(20) == 1
        with pytest.raises(ConnectionError):
            read_reply(connection)
        assert service.process.stdout is not None
        assert service.process.stdout.read() == ""
        assert service.log.read_text() == "stopped; 1 request under way could not be answered\n"


class TestRefusals:
    """Before a model is opened where that can be: in a second."""

    def refused(self, model: Path, *options: str) -> str:
        command = [sys.executable, "-m", "seamline", "serve", str(model), *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1
        assert done.stdout == ""
        return done.stderr

    def test_a_public_address_without_keys(self, model: Path) -> None:
        assert self.refused(model, "--host", "0.0.0.0", "--port", "0").startswith(
            "error: --host 0.0.0.0: others could reach the service without a key; name a file of keys"
        )

    def test_what_is_wrong_with_address_and_keys_before_a_model_is_opened(self, tmp_path: Path) -> None:
        (tmp_path / "keys.txt").write_text("short")
        assert "the key in line 1 cannot be used" in self.refused(
            tmp_path / "none", "--keys", str(tmp_path / "keys.txt")
        )
        assert "others could reach the service" in self.refused(tmp_path / "none", "--host", "0.0.0.0", "--port", "0")

    def test_an_address_that_is_taken(self, model: Path) -> None:
        from seamline.service.listening import listen

        with listen("127.0.0.1", 0) as taken:
            taken.listen()
            port = taken.getsockname()[1]
            assert self.refused(model, "--port", str(port)) == (
                f"error: 127.0.0.1:{port}: cannot listen there (Address already in use); --host and --port name "
                "another address.\n"
            )


def test_a_public_address_with_keys_is_served(model: Path, photo: bytes, tmp_path: Path) -> None:
    (tmp_path / "keys.txt").write_text(f"{KEY}\n")
    with served(model, tmp_path, "--host", "0.0.0.0", "--keys", str(tmp_path / "keys.txt")) as service:
        assert service.ask(photo_request(photo, headers={"Host": "any.example"})).status == 401
        asked = photo_request(photo, headers={"Host": "any.example", "Authorization": f"Bearer {KEY}"})
        assert service.ask(asked).status == 200
