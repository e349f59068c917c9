"""What /metrics says: each event counted once, under a name of a fixed list, whatever is asked and by whom."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from seamline.service.metrics import (
    DESCRIBING_PARTS,
    METHODS,
    OUTCOMES,
    PARTS,
    REASONS,
    ROUTES,
    SCORES,
    SECONDS,
    Metrics,
)

NAMES = ["short sleeve top", 'a "quoted"\\ name', "kjole\næ", "\udc80"]


def values(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Every sample by its name and its labels' values, in the order of the labels' names."""
    text = metrics.page()[0].decode()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_an_answer_is_counted_and_its_photos_and_their_detections() -> None:
    metrics = Metrics(NAMES)
    metrics.model("openvino_int8", "0123456789ab", "yolo", "int8")
    metrics.photos_limit(16)
    metrics.under_way(3, 120_000)
    metrics.request_done("predict", "POST", 200, 0.041)
    metrics.photo_done("ok", {"queue": 0.5, "inference": 30, "total": 41}, [0, 2, 2], [0.31, 0.5, 0.97])
    metrics.photo_done("unusable", {"decode": 3})
    metrics.rejected("queue_full")
    found = values(metrics)
    assert found["seamline_model_info", "yolo", "openvino_int8", "int8", "0123456789ab"] == 1
    assert found["seamline_requests_total", "POST", "predict", "200"] == 1
    assert found["seamline_request_seconds_sum", "predict"] == pytest.approx(0.041)
    assert found["seamline_request_seconds_bucket", "0.03", "predict"] == 0
    assert found["seamline_request_seconds_bucket", "0.05", "predict"] == 1
    assert found["seamline_photo_seconds_sum", "inference"] == pytest.approx(0.03)
    assert [found["seamline_photo_seconds_count", part] for part in PARTS] == [1, 1, 1, 0, 0, 1]
    assert [found["seamline_photos_total", outcome] for outcome in OUTCOMES] == [1, 1, 0, 0]
    assert [found["seamline_detections_total", name] for name in NAMES[:3]] == [1, 0, 2]
    assert found["seamline_detection_score_bucket", "0.35"] == 1
    assert found["seamline_detection_score_bucket", "0.5"] == 2
    assert found["seamline_detection_score_bucket", "0.95"] == 2
    assert found["seamline_detection_score_bucket", "1.0"] == found["seamline_detection_score_count",] == 3
    assert found["seamline_rejections_total", "queue_full"] == 1
    assert found["seamline_photos_under_way",] == 3
    assert found["seamline_photos_limit",] == 16
    assert found["seamline_body_bytes_under_way",] == 120_000


def test_what_can_happen_is_there_from_the_beginning() -> None:
    """Prometheus sees a first event only where there was a zero before it."""
    found = values(Metrics(NAMES))
    assert {key[1] for key in found if key[0] == "seamline_rejections_total"} == set(REASONS)
    assert {key[1] for key in found if key[0] == "seamline_photos_total"} == set(OUTCOMES)
    assert {key[1] for key in found if key[0] == "seamline_detections_total"} == {*NAMES[:3], "?"}
    assert {key[1] for key in found if key[0] == "seamline_photo_seconds_count"} == set(PARTS)
    described = values(Metrics(NAMES, described=True))
    parts = {key[1] for key in described if key[0] == "seamline_photo_seconds_count"}
    assert parts == {*PARTS, *DESCRIBING_PARTS}
    assert len([key for key in found if key[0] == "seamline_detection_score_bucket"]) == len(SCORES) + 1
    assert not [key for key in found if key[0].endswith("_created")]


def test_odd_requests_make_no_new_series() -> None:
    metrics = Metrics(NAMES)
    for route in ROUTES:
        for method in METHODS:
            metrics.request_done(route, method, 404, 0.001)
    before = values(metrics).keys()
    drawn = random.Random(0)
    for number in range(1000):
        metrics.request_done(f"/wp-admin/{number}", f"M{number}", 404, drawn.expovariate(1))
        metrics.rejected(f"reason {number}")
        metrics.photo_done(f"outcome {number}", {f"part {number}": 1})
    found = values(metrics)
    assert found.keys() == before
    assert found["seamline_requests_total", "other", "other", "404"] == 1001
    assert found["seamline_rejections_total", "other"] == 1000
    assert found["seamline_photos_total", "other"] == 1000
    assert sum(value for key, value in found.items() if key[0] == "seamline_photo_seconds_count") == 0


def test_threads_lose_nothing() -> None:
    metrics = Metrics(NAMES)

    def many(_: int) -> None:
        for _ in range(1000):
            metrics.request_done("predict", "POST", 200, 0.1)
            metrics.photo_done("ok", dict.fromkeys(PARTS, 10.0), [1], [0.9])
            metrics.rejected("stopping")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(many, range(8)))
    found = values(metrics)
    for name in ("requests_total", "rejections_total", "photos_total", "detections_total", "detection_score_count"):
        assert sum(value for key, value in found.items() if key[0] == f"seamline_{name}") == 8000, name
    assert found["seamline_photo_seconds_count", "total"] == 8000
    assert found["seamline_photo_seconds_sum", "total"] == pytest.approx(80)


def test_two_services_of_a_process_do_not_share_them_nor_does_anybody_else() -> None:
    first, second = Metrics(["top"]), Metrics(["top", "dress"])
    first.rejected("slow")
    assert values(first)["seamline_rejections_total", "slow"] == 1
    assert values(second)["seamline_rejections_total", "slow"] == 0
    assert not [family.name for family in REGISTRY.collect() if family.name.startswith("seamline")]


def test_the_buckets_fit_two_milliseconds_to_ten_seconds_and_the_promise_of_a_quarter_of_one() -> None:
    assert (SECONDS[0], SECONDS[-1]) == (0.002, 10)
    assert 0.25 in SECONDS
    assert all(later <= 2.5 * earlier for earlier, later in pairwise(SECONDS))
    assert [f"{score:g}" for score in SCORES] == [f"{step / 100:g}" for step in range(5, 101, 5)]


def test_a_photo_costs_microseconds() -> None:
    metrics = Metrics([f"class {index}" for index in range(13)])
    parts = dict.fromkeys(PARTS, 40.0)
    begun = time.process_time()
    for _ in range(2000):
        metrics.under_way(3, 1000)
        metrics.request_done("predict", "POST", 200, 0.04)
        metrics.photo_done("ok", parts, [1, 2, 3], [0.3, 0.6, 0.95])
    assert (time.process_time() - begun) / 2000 < 200e-6  # 13 are usual


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux has /proc")
def test_the_process_is_there_too() -> None:
    found = values(Metrics([]))
    assert found["process_resident_memory_bytes",] > 1_000_000
    assert found["process_open_fds",] > 2
    assert abs(found["process_start_time_seconds",] - time.time()) < 7 * 24 * 3600


def test_it_imports_neither_a_model_nor_a_server() -> None:
    code = (
        "import sys; from seamline.service.metrics import Metrics; Metrics(['top']).page();"
        "sys.exit(', '.join({'numpy', 'cv2', 'torch', 'starlette', 'uvicorn'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (0, "")
