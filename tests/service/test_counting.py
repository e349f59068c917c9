"""What the service counts at /metrics: answers, refusals of every kind, and photos whose answer nobody got."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from seamline.service.admission import Admission
from seamline.service.metrics import REASONS, ROUTES
from seamline.service.problems import REASON_OF_STATUS, Problem
from seamline.service.settings import Settings
from tests.conftest import PROJECT
from tests.service.running import running
from tests.untrained import Untrained

KEY = {"X-API-Key": "a-key-of-this-test-0123456789"}
PHOTO = {"Content-Type": "image/png"}
HTTP = httpx.Client()  # one of them: each reads the system's certificates


@pytest.fixture(scope="module")
def address(untrained: Untrained) -> Iterator[str]:
    with running(untrained.models()["openvino"], Settings(body_bytes=100_000), [*KEY.values()]) as address:
        yield address


def counts(address: str, name: str) -> dict[str, float]:
    """The values of a metric by its only label, or that and its others with commas."""
    return to_counts(HTTP.get(f"{address}/metrics", headers=KEY), name)


def to_counts(page: httpx.Response, name: str) -> dict[str, float]:
    assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        ",".join(value for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page.text)
        for sample in family.samples
        if sample.name == f"seamline_{name}"
    }


def grown(address: str, name: str, before: dict[str, float]) -> dict[str, float]:
    after = counts(address, name)
    return {key: value - before.get(key, 0) for key, value in after.items() if value != before.get(key, 0)}


def raw(address: str, data: bytes) -> bytes:
    where = urlsplit(address)
    with socket.create_connection((where.hostname or "", where.port or 0), timeout=20) as connection:
        connection.sendall(data)
        return connection.recv(1000)


@pytest.mark.parametrize(
    ("ask", "status", "reason"),
    [
        (lambda a: HTTP.get(f"{a}/v1/about"), 401, "no_key"),
        (lambda a: HTTP.get(f"{a}/v1/about", headers={"X-API-Key": "another-key-9876543210"}), 401, "no_key"),
        (lambda a: HTTP.get(f"{a}/v1/about", headers=KEY | {"Host": "evil.example"}), 421, "host"),
        (lambda a: HTTP.get(f"{a}/v1/about", headers=KEY | {"Origin": "https://evil.example"}), 403, "host"),
        (lambda a: HTTP.post(f"{a}/v1/predict", content=b"x" * 100_001, headers=KEY), 413, "too_large"),
        (lambda a: HTTP.post(f"{a}/v1/predict", content=b"x", headers=KEY), 415, "media_type"),
        (lambda a: HTTP.post(f"{a}/v1/predict", content=b"x", headers=KEY | PHOTO), 422, "invalid"),
        (lambda a: HTTP.post(f"{a}/v1/predict?embed=true", content=b"x", headers=KEY | PHOTO), 422, "invalid"),
        (
            lambda a: HTTP.post(
                f"{a}/v1/predict", content=b"{", headers=KEY | {"Content-Type": "application/json"}
            ),
            400,
            "unreadable",
        ),
    ],
)  # fmt: skip
def test_a_refusal_is_counted_under_its_reason(
    address: str, ask: Callable[[str], httpx.Response], status: int, reason: str
) -> None:
    before, answered = counts(address, "rejections_total"), counts(address, "requests_total")
    assert ask(address).status_code == status
    assert grown(address, "rejections_total", before) == {reason: 1}
    requests = {key: value for key, value in grown(address, "requests_total", answered).items() if "metrics" not in key}
    assert [key.split(",")[2] for key in requests] == [str(status)]


def test_what_never_reaches_the_application_is_counted_too(address: str, untrained: Untrained) -> None:
    before = counts(address, "rejections_total")
    assert raw(address, b"not http\r\n\r\n").split()[1] == b"400"
    assert grown(address, "rejections_total", before) == {"unreadable": 1}
    with running(untrained.models()["openvino"], Settings(header_seconds=1), [*KEY.values()]) as impatient:
        assert raw(impatient, b"GET / HTTP/1.1\r\nAn-end: does not co").split()[1] == b"408"
        assert counts(impatient, "rejections_total")["slow"] == 1


def test_a_connection_too_many_is_counted(untrained: Untrained) -> None:
    limited = running(untrained.models()["openvino"], Settings(connections=1))
    with limited as address, httpx.Client(base_url=address) as client:
        assert client.get("/v2/health/live").status_code == 200  # holds the one connection that is allowed
        assert raw(address, b"GET / HTTP/1.1\r\n").split()[1] == b"503"
        assert to_counts(client.get("/metrics"), "rejections_total")["connections_full"] == 1


def test_an_address_that_is_not_there_is_an_answer_and_no_refusal(address: str) -> None:
    before, answered = counts(address, "rejections_total"), counts(address, "requests_total")
    for path in ("/wp-admin", "/v1/predict/../../etc/passwd", f"/{'x' * 5000}"):
        assert HTTP.get(f"{address}{path}").status_code == 404
    assert grown(address, "rejections_total", before) == {}
    assert grown(address, "requests_total", answered)["GET,other,404"] == 3


def test_photos_are_counted_by_what_became_of_them(address: str, untrained: Untrained) -> None:
    before = counts(address, "photos_total")
    files = [("image", (photo.name, photo.read_bytes())) for photo in untrained.images()[:2]]
    files.append(("image", ("c.png", b"not a photo")))
    assert HTTP.post(f"{address}/v1/predict", files=files, headers=KEY).status_code == 200
    assert grown(address, "photos_total", before) == {"ok": 2, "unusable": 1}
    assert counts(address, "photos_under_way") == counts(address, "body_bytes_under_way") == {"": 0}
    assert counts(address, "photos_limit") == {"": Settings().queue}
    [model] = counts(address, "model_info")
    assert model.startswith("yolo,openvino,f32,")


def test_a_photo_whose_answer_takes_too_long_is_counted_as_abandoned(untrained: Untrained) -> None:
    with running(untrained.models()["openvino"], Settings(answer_seconds=0.0001), [*KEY.values()]) as address:
        photo = untrained.images()[0].read_bytes()
        answer = HTTP.post(f"{address}/v1/predict", content=photo, headers=KEY | PHOTO)
        assert answer.status_code == 504
        assert counts(address, "photos_total")["abandoned"] == 1
        assert counts(address, "rejections_total")["late"] == 1


def test_the_metrics_need_a_key_where_the_service_does(address: str) -> None:
    assert HTTP.get(f"{address}/metrics").status_code == 401
    assert HTTP.get(f"{address}/metrics", headers={"Authorization": f"Bearer {KEY['X-API-Key']}"}).status_code == 200


def test_the_container_s_health_is_that_of_the_service(address: str) -> None:
    """By the command of deploy/compose.yaml, which needs no key."""
    test = yaml.safe_load((PROJECT / "deploy" / "compose.yaml").read_text())["services"]["seamline"]["healthcheck"][
        "test"
    ]
    script = test[-1].replace("http://127.0.0.1:8000", address)
    assert test[:3] == ["CMD", "python", "-c"]
    assert script != test[-1]
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
    nobody = script.replace("ready", "nowhere")
    assert subprocess.run([sys.executable, "-c", nobody], capture_output=True).returncode == 1


def test_what_there_is_no_room_for_says_of_what() -> None:
    admission = Admission(Settings(queue=1, bodies_bytes=10))
    admission.take_photos(1)
    with pytest.raises(Problem) as queue:
        admission.take_photos(1)
    with pytest.raises(Problem) as bodies:
        admission.take_bytes(11)
    assert (queue.value.reason, bodies.value.reason) == ("queue_full", "bytes_full")


def test_every_reason_and_every_route_has_its_name_in_the_metrics() -> None:
    """In the sources, so that a new one cannot be forgotten: it would be counted as `other`."""
    named = set(REASON_OF_STATUS.values())
    routes: set[str] = set()
    for path in (PROJECT / "seamline" / "service").glob("*.py"):
        text = path.read_text()
        named |= set(re.findall(r'overloaded\([^"]*"(\w+)"\)', text))
        named |= set(re.findall(r'Problem\(503, "[^"]*", \{[^}]*\}, "(\w+)"\)', text))
        routes |= set(re.findall(r'Route\([^)]*name="(\w+)"', text))
    assert named == set(REASONS) - {"other"}
    assert {"predict", "health", "metrics"} <= routes <= set(ROUTES)
