"""The load test of the service: what wrk sends and counts, the arithmetic of its bars, and all of it in miniature."""

from __future__ import annotations

import email.parser
import email.policy
import http.server
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import pytest

from bench import serving, serving_load, serving_parts
from bench.serving_inputs import SIZE, make_photos
from bench.serving_load import Load, Service, load
from bench.serving_parts import Setting
from seamline.base.errors import SeamlineError
from tests.conftest import PROJECT
from tests.programs import needs_program
from tests.stages.test_stage import with_params
from tests.untrained import Untrained

SLOW_S = 0.03


class Alternately(http.server.BaseHTTPRequestHandler):
    """Answers every other photo after SLOW_S, and refuses the rest at once."""

    protocol_version = "HTTP/1.1"
    server: Counting

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        parts = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body).iter_parts()
        photos = [(part.get_param("name", header="content-disposition"), part.get_content()) for part in parts]
        refused = next(self.server.numbers) % 2 == 1
        self.server.asked.append(photos)
        if not refused:
            time.sleep(SLOW_S)
        self.send_response(503 if refused else 200)
        self.send_header("X-Request-Id", self.headers["X-Request-Id"])
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


class Counting(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Alternately)
        self.numbers = itertools.count()
        self.asked: list[list[tuple[Any, bytes]]] = []


@contextmanager
def counting() -> Iterator[tuple[Counting, Service]]:
    with Counting() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        process: Any = SimpleNamespace(poll=lambda: None)
        yield server, Service(f"http://127.0.0.1:{server.server_address[1]}/v1/predict", process)
        server.shutdown()
        thread.join()


def test_photos_are_the_same_each_time_and_as_large_as_those_of_a_street(tmp_path: Path) -> None:
    photos, again = (make_photos(tmp_path / name, 3) for name in "ab")
    assert len(photos) == 3
    for photo, other in zip(photos, again, strict=True):
        picture = cv2.imread(str(photo))
        assert picture is not None
        assert picture.shape[:2] == SIZE[::-1]
        assert 50_000 <= photo.stat().st_size <= 100_000
        assert photo.read_bytes() == other.read_bytes()


@needs_program("wrk")
def test_what_is_refused_is_counted_apart_from_what_is_answered(tmp_path: Path) -> None:
    photos = [tmp_path / f"{name}.jpg" for name in "abc"]
    for photo in photos:
        photo.write_bytes(photo.stem.encode() * 100)
    with counting() as (server, service):
        found = load(service, photos, clients=2, seconds=1, batch=2)
    answered, refused = found.statuses["200"], found.statuses["503"]
    assert 0 <= len(server.asked) - answered - refused <= 2  # those that nobody waited for any more
    assert abs(answered - refused) <= 2
    assert len(found.answers) == answered
    assert min(found.answers) >= 1000 * SLOW_S
    assert serving_load.percentile(found.refusals, 50) < 1000 * SLOW_S
    assert found.answered_s == pytest.approx(2 * answered, rel=0.1)  # two photos in a request
    assert found.cut == 0
    sent = [b"".join(data for _, data in photos)[::100] for photos in server.asked]
    assert set(sent) == {b"ab", b"bc", b"ca"}
    assert {name for photos in server.asked for name, _ in photos} == {"image"}


@needs_program("wrk")
def test_requests_begin_at_a_rate_whatever_the_answers_take(tmp_path: Path) -> None:
    photo = tmp_path / "a.jpg"
    photo.write_bytes(b"photo")
    with counting() as (server, service):
        found = load(service, [photo], clients=20, seconds=2, rate=40)
    assert 1 <= len(server.asked) <= 84  # fewer where the machine is busy, and never more
    assert sum(found.statuses.values()) == pytest.approx(len(server.asked), abs=3)


def found_by(rate: float, p99: float = 100) -> Load:
    return Load(rate, p99 / 4, p99 / 2, p99, {"200": 10}, 0, [], [])


def test_peers_take_turns_and_ours_is_held_to_each_round_by_round(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[str] = []

    @contextmanager
    def started(command: list[str], *_: Any) -> Iterator[Service]:
        process: Any = " ".join([command[0], *command[1:2], *command[4:]])
        yield Service(process, process)

    def loaded(service: Service, *_: Any) -> Load:
        turns.append(service.url)
        slowed = 2 if len(turns) > len(serving_parts.PEERS) + 1 else 1  # the whole second round
        rate = 12 if service.url.startswith("seamline") else 4 if "fastapi" in service.url else 6
        return found_by(rate / slowed, 100 * slowed)

    @contextmanager
    def at_work(_: Any) -> Iterator[None]:
        yield

    monkeypatch.setattr(serving_parts, "started", started)
    monkeypatch.setattr(serving_parts, "load", loaded)
    monkeypatch.setattr(serving_parts, "at_work", at_work)
    monkeypatch.setattr(serving_parts, "pause", lambda _: None)
    monkeypatch.setattr(serving_parts, "as_theirs", lambda *_: Path("theirs"))
    monkeypatch.setattr(serving_parts, "memory_mb", lambda process: 300 if "seamline" in process else 600)
    model: Any = SimpleNamespace(path=Path("ours"), confidence=0.5, names=["dress"])
    setting = Setting({640: model}, (640, 160), [Path("a.jpg")], Path(), Path(), [0, 1], 1, 2, 1, 1)
    found = serving_parts.peers(setting)
    assert turns[: len(turns) // 2] == turns[len(turns) // 2 :]
    assert len(set(turns)) == 1 + len(serving_parts.PEERS)
    assert {row["ours_photos_s_beside"] for name, row in found.items() if "FastAPI" in name} == {3.0}
    assert {row["ours_photos_s_beside"] for name, row in found.items() if "LitServe" in name} == {2.0}
    assert {row["ours_memory_beside"] for name, row in found.items() if name != "ours"} == {0.5}
    bars = serving.peer_bars(found)
    assert [bar.is_reached for bar in bars] == [True, False, True, True, True, True, True]  # p99 is equal, not half


def test_litserve_counts_at_its_best_number_of_workers() -> None:
    row = {"ours_photos_s_beside": 1.0, "ours_p99_beside": 0.1, "ours_memory_beside": 0.1, "photos_s": 5.0}
    found = {name: dict(row) for name in serving_parts.PEERS}
    found["LitServe around ultralytics, 2 workers"] |= {"photos_s": 9.0, "ours_photos_s_beside": 0.9}
    found["LitServe around our Detector, 1 worker"] |= {"photos_s": 6.0, "ours_memory_beside": 0.7}
    missed = [bar for bar in serving.peer_bars(found) if not bar.is_reached]
    assert [(bar.promise.rpartition("beside ")[2], bar.figure) for bar in missed] == [
        (serving.FIRST, 1.0),
        (f"{serving.LOCKED} with a lock", 1.0),
        (serving.LITSERVE, 0.9),
        (serving.LITSERVE_DETECTOR, 0.7),
    ]


def test_it_is_ready_when_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "server.py").write_text(
        "import os, sys, time\nif '--fail' in sys.argv: sys.exit('no model')\ntime.sleep(0.3)\n"
        "open(os.environ['SEAMLINE_SCRATCH'] + '/stored', 'w').close()\n"
        "print('ready on http://x', flush=True)\ntime.sleep(60)\n"
    )
    monkeypatch.chdir(tmp_path)  # python -m finds it here
    log = tmp_path / "start.log"
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    assert 0.3 <= serving_load.ready_s(["server"], log, scratch) < 30
    assert (scratch / "stored").exists()
    with pytest.raises(SeamlineError, match="did not get ready"):
        serving_load.ready_s(["server", "--fail"], log, scratch)
    assert log.read_text().strip() == "no model"


def test_the_first_start_and_later_ones_have_a_bar_each(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folders: list[Path] = []

    def ready_s(_: list[str], log: Path, scratch: Path) -> float:
        assert scratch.is_dir()
        folders.append(scratch)
        return 2.01 if folders.count(scratch) == 1 else 2.0

    monkeypatch.setattr(serving_parts, "ready_s", ready_s)
    model: Any = SimpleNamespace(path=Path("ours"), confidence=0.5)
    setting = Setting({640: model, 160: model}, (640, 160), [], tmp_path, Path(), [0], 1, 2, 1, 1)
    found = serving_parts.start(setting)
    assert found == {size: {"first_ready_s": 2.01, "ready_s": 2.0} for size in ("640", "160")}
    assert len(folders) == 6
    assert [(bar.promise, bar.is_reached) for bar in serving.start_bars(found)] == [
        ("ready at 640 px, s", True),
        ("ready at 160 px, s", True),
        ("ready at 640 px, nothing stored, s", False),
        ("ready at 160 px, nothing stored, s", False),
    ]


@pytest.mark.parametrize(("detector_ms", "ratio", "is_reached"), [(40, 1.1, True), (40, 1.11, False), (8, 1.24, True)])
def test_one_client_may_wait_a_tenth_or_2_ms_longer(detector_ms: float, ratio: float, is_reached: bool) -> None:
    [bar] = serving.one_client_bars({"detector_ms": detector_ms, "ratio": ratio})
    assert bar.is_reached is is_reached


@pytest.mark.parametrize(
    ("memory", "growth"),
    [([100.0], 1.0), ([100.0, 110.0], 1.1), ([50, 100, 70, 120], 1.2), ([9, 9, 100, 100, 9, 9, 110, 110], 1.1)],
)
def test_growth_of_memory_is_that_after_the_first_quarter(memory: list[float], growth: float) -> None:
    assert serving_parts.growth(memory) == pytest.approx(growth)


def test_overload_is_answered_or_refused_and_nothing_else() -> None:
    good = {
        "goodput": 0.9, "refusals_p99_ms": 20, "memory_growth": 1.0, "statuses": {"200": 5, "503": 10}, "cut": 0,
        "p50_before_ms": 40, "p50_after_ms": 43,
    }  # fmt: skip
    assert all(bar.is_reached for bar in serving.overload_bars(good))
    for changed in (
        {"goodput": 0.84}, {"refusals_p99_ms": 51}, {"memory_growth": 1.06}, {"statuses": {"200": 5, "500": 1}},
        {"cut": 1}, {"p50_after_ms": 45}, {"refusals_p99_ms": float("nan")},
    ):  # fmt: skip
        assert sum(not bar.is_reached for bar in serving.overload_bars({**good, **changed})) == 1


def test_figures_of_a_server_that_refuses_mean_nothing() -> None:
    with pytest.raises(RuntimeError, match="503"):
        serving_parts.only_answers(found_by(5)._replace(statuses={"200": 9, "503": 1}))


@pytest.mark.thorough
@needs_program("wrk")
def test_the_whole_load_test_runs_in_miniature_and_is_resumed(tmp_path: Path, untrained: Untrained) -> None:
    for name in ("bench", "samples"):
        (tmp_path / name).symlink_to(PROJECT / name)
    with_params(tmp_path, {})
    packages = Path(".seamline") / "serving-peers"
    parts = list(serving.PARTS)
    if (PROJECT / packages / ".done").exists():  # make load-test has installed the peers
        (tmp_path / packages).parent.mkdir()
        (tmp_path / packages).symlink_to(PROJECT / packages)
    else:
        parts.remove("peers")
    command = [sys.executable, "-m", "bench.serving", "--weights", str(untrained.weights), "--sizes", "96", "64"]
    command += ["--seconds", "1", "--rounds", "1", "--overload", "2", "--soak", "5", "--machine", "a test"]

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
        return subprocess.run([*command, *options], cwd=tmp_path, env=environment, capture_output=True, text=True)

    whole = ["--out", "reports/serving.json", "--only", *parts]
    done = run(*whole)
    logs = "".join(path.read_text()[-2000:] for path in tmp_path.glob(".seamline/bench/serving/*.log"))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    report = json.loads((tmp_path / "reports" / "serving.json").read_text())
    assert report["machine"] == "a test"
    assert set(report["parts"]) == set(parts)
    assert report["libraries"]["uvicorn"]
    assert report["parts"]["overload"]["statuses"]["200"] > 0
    for part in report["parts"].values():
        for bar in part["bars"]:
            assert bar["promise"] in done.stdout
            assert bar["figure"] >= 0
    again = run(*whole)
    assert again.returncode == 0
    assert " s\n" not in again.stdout  # nothing is measured again
    some = run("--only", "start")
    assert some.returncode == 0
    assert json.loads((tmp_path / serving.SOME).read_text())["parts"].keys() == {"start"}
    assert json.loads((tmp_path / serving.WHOLE).read_text()) == report
