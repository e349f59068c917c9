"""A real Prometheus (Debian's package) scrapes a real service, and answers what the rules and the dashboard ask."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import yaml

from tests.programs import needs_program, program
from tests.service.running import running
from tests.service.test_deploy import DASHBOARD, DEPLOY, RULES
from tests.untrained import NAMES, Untrained

pytestmark = needs_program("prometheus")
KEY = "a-key-of-prometheus-0123456789"
CONFIDENCE = 0.02  # nobody trained the model
WAIT_SECONDS = 60
HAVE_NOTHING = {"Restarts", "Alarms"}  # what does not happen here


class Scraped(NamedTuple):
    """A service that has answered requests, as Prometheus sees it."""

    prometheus: str  # its address
    detections: int  # that were answered

    def get(self, path: str, **query: str) -> Any:
        """The data of an answer of Prometheus' API."""
        url = f"{self.prometheus}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def values(self, expression: str) -> list[float]:
        return [float(one["value"][1]) for one in self.get("query", query=expression)["result"]]


def wait_for(what: Callable[[], Any]) -> Any:
    """What it gives, once that is something; until then connections may fail."""
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        try:
            if found := what():
                return found
        except OSError:
            pass
        time.sleep(0.1)
    return what()


def configuration(folder: Path, target: str) -> Path:
    """That of deploy/prometheus for a service of this machine, whose metrics it reads twice a second."""
    text = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    text["global"] = {"scrape_interval": "500ms", "evaluation_interval": "1s", "scrape_timeout": "500ms"}
    text["rule_files"] = [str(DEPLOY / "prometheus" / "rules.yml")]
    [job] = text["scrape_configs"]
    job["static_configs"] = [{"targets": [target]}]
    for name, key in (("key", KEY), ("wrong", "not-a-key-of-this-service")):
        (folder / name).write_text(f"{key}\n")
    job["authorization"]["credentials_file"] = str(folder / "key")
    wrong = {"type": "Bearer", "credentials_file": str(folder / "wrong")}
    text["scrape_configs"].append({**job, "job_name": "wrong-key", "authorization": wrong})
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(text))
    return path


def answer_some(address: str, photos: list[Path]) -> int:
    """Have photos answered and something refused; gives the number of detections."""
    headers = {"X-API-Key": KEY}
    found = 0
    for _ in range(2):
        for photo in photos:
            answer = httpx.post(
                f"{address}/v1/predict", params={"confidence": CONFIDENCE}, content=photo.read_bytes(),
                headers=headers | {"Content-Type": "image/png"},
            )  # fmt: skip
            assert answer.status_code == 200
            found += len(answer.json()["images"][0]["instances"])
    files = [("image", ("a.png", photos[0].read_bytes())), ("image", ("b.png", b"not a photo"))]
    answer = httpx.post(f"{address}/v1/predict", params={"confidence": CONFIDENCE}, files=files, headers=headers)
    found += len(answer.json()["images"][0]["instances"])
    assert httpx.post(f"{address}/v1/predict", content=b"").status_code == 401
    assert httpx.get(f"{address}/wp-admin/{'x' * 100}").status_code == 404
    assert httpx.post(f"{address}/v1/predict", content=b"{", headers=headers).status_code == 415
    return found


@pytest.fixture(scope="module")
def scraped(untrained: Untrained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    folder = tmp_path_factory.mktemp("prometheus")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        listens = f"127.0.0.1:{free.getsockname()[1]}"
    with running(untrained.models()["openvino"], keys=[KEY]) as address:
        command = [
            program("prometheus"), f"--config.file={configuration(folder, address.removeprefix('http://'))}",
            f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={listens}", "--log.level=warn",
        ]  # fmt: skip
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            before = Scraped(f"http://{listens}", 0)
            assert wait_for(lambda: before.values('scrape_samples_scraped{job="seamline"} > 100')), (
                folder / "log"
            ).read_text()
            yield before._replace(detections=answer_some(address, untrained.images()))
        finally:
            process.terminate()
            process.wait(WAIT_SECONDS)


def test_it_reads_with_a_key_and_not_with_another(scraped: Scraped) -> None:
    def tried() -> Any:
        found = {one["labels"]["job"]: one for one in scraped.get("targets")["activeTargets"]}
        return found if all(one["health"] != "unknown" for one in found.values()) else None

    targets = wait_for(tried)
    assert (targets["seamline"]["health"], targets["seamline"]["lastError"]) == ("up", "")
    assert targets["wrong-key"]["health"] == "down"
    assert "401" in targets["wrong-key"]["lastError"]


def test_it_has_what_was_answered_and_refused(scraped: Scraped, untrained: Untrained) -> None:
    photos = 2 * len(untrained.images()) + 1
    assert wait_for(lambda: scraped.values(f'seamline_photos_total{{outcome="ok"}} == {photos}'))
    assert wait_for(lambda: scraped.values('seamline_rejections_total{reason="media_type"} == 1'))
    assert scraped.values('seamline_photos_total{outcome="unusable"}') == [1]
    assert scraped.detections > 10
    assert scraped.values("sum(seamline_detections_total)") == [scraped.detections]
    assert scraped.values("count(seamline_detections_total)") == [len(NAMES)]
    assert scraped.values("seamline_detection_score_count") == [scraped.detections]
    assert scraped.values('seamline_requests_total{route="predict", status="200"}') == [photos]
    assert scraped.values('seamline_requests_total{route="predict", status="401"}') == [1]
    assert scraped.values('seamline_requests_total{route="other", status="404"}') == [1]
    assert scraped.values('seamline_rejections_total{reason="no_key"} > 1')  # Prometheus' own with the wrong key
    for part in ("queue", "decode", "inference", "masks", "encode", "total"):
        assert scraped.values(f'seamline_photo_seconds_count{{part="{part}"}}') == [photos]
    whole = scraped.values('seamline_photo_seconds_sum{part="total"}')[0]
    assert 0 < scraped.values('sum(seamline_photo_seconds_sum{part!="total"})')[0] <= whole < WAIT_SECONDS
    assert scraped.values("seamline_photos_under_way") == [0]


def test_every_rule_is_evaluated_and_no_alarm_comes(scraped: Scraped) -> None:
    def rules() -> Any:
        found = [rule for group in scraped.get("rules")["groups"] for rule in group["rules"]]
        return found if all(rule["health"] != "unknown" for rule in found) else None

    found = wait_for(rules)
    assert len(found) == sum(len(group["rules"]) for group in RULES["groups"])
    assert [rule.get("lastError") for rule in found if rule["health"] != "ok"] == []
    assert [rule["name"] for rule in found if rule.get("state") == "firing"] == []


def asked() -> dict[str, str]:
    """What the dashboard asks, by panel, with what Grafana puts in for its variables."""
    targets = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in DASHBOARD["panels"]
        for target in panel.get("targets", [])
    }
    notes = {note["name"]: note["expr"] for note in DASHBOARD["annotations"]["list"]}
    return {
        name: text.replace("$instance", ".*").replace("$__rate_interval", "1m")
        for name, text in (targets | notes).items()
    }


@pytest.mark.parametrize("name", asked())
def test_prometheus_has_an_answer_for_every_panel(scraped: Scraped, name: str) -> None:
    expression = asked()[name]
    if name in HAVE_NOTHING or "offset 1d" in expression:
        assert scraped.values(expression) == []
    else:
        assert wait_for(lambda: scraped.values(expression)), expression
