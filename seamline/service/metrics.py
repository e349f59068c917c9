"""What Prometheus is given at /metrics: requests, latencies by part, the queue, refusals, detections and their scores.

The number of series is fixed: what a request can choose (its path, its method) is counted under a name of a list here,
or as `other`, so that nobody who sends odd requests can fill the memory. Every method takes microseconds and may be
called from any thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

OTHER = "other"  # in place of what none of these lists has
ROUTES = (
    "predict", "infer", "embed", "search", "crop", "model", "server", "about", "health", "openapi", "page", "metrics",
    OTHER,
)  # fmt: skip
METHODS = ("GET", "HEAD", "POST", OTHER)
PARTS = ("queue", "decode", "inference", "masks", "encode", "total")  # of the time that a photo takes
DESCRIBING_PARTS = ("attributes", "embedding", "search")  # where the service has models for them
OUTCOMES = (
    "ok",
    "unusable",  # not an image that can be decoded, too large, or not at its address
    "abandoned",  # whoever sent it has gone, or it took too long
    OTHER,
)
REASONS = (
    "queue_full",
    "bytes_full",  # as many bytes of bodies are held as may be
    "connections_full",
    "stopping",
    "too_large",  # the body, or the number of its photos
    "headers_too_large",
    "no_key",  # or one that is not known
    "host",  # a name that this service does not go by, or a page of another site
    "slow",  # headers or body did not come in time
    "late",  # no answer in time
    "unreadable",  # not HTTP, JSON or a form
    "invalid",  # what it asks for is not allowed, or its only photo cannot be used
    "media_type",
    OTHER,
)
# In seconds: 2 ms is a small photo's part, 0.25 s what a whole answer may take, 10 s longer than anybody waits.
SECONDS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10)
SCORES = tuple(step / 20 for step in range(1, 21))


class Metrics:
    """The metrics of one service, in a registry of their own."""

    def __init__(self, class_names: Sequence[str], described: bool = False) -> None:
        """All series that do not depend on requests are there from the beginning, with zeros: a rate needs two values.

        Args:
            class_names: the model's, by index.
            described: whether garments get attributes or vectors here.
        """
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)  # reads /proc; elsewhere than on Linux it has nothing
        self._requests = Counter(
            "seamline_requests", "Requests answered.", ("route", "method", "status"), registry=registry
        )
        request_seconds = Histogram(
            "seamline_request_seconds", "From a request's first byte to the end of its answer.", ("route",),
            registry=registry, buckets=SECONDS,
        )  # fmt: skip
        self._request_seconds = {route: request_seconds.labels(route) for route in ROUTES}
        photo_seconds = Histogram(
            "seamline_photo_seconds", "What the parts of one photo's answer take.", ("part",),
            registry=registry, buckets=SECONDS,
        )  # fmt: skip
        self._photo_seconds = {
            part: photo_seconds.labels(part) for part in (*PARTS, *(DESCRIBING_PARTS if described else ()))
        }
        photos = Counter("seamline_photos", "Photos by what became of them.", ("outcome",), registry=registry)
        self._photos = {outcome: photos.labels(outcome) for outcome in OUTCOMES}
        rejections = Counter("seamline_rejections", "Requests refused, by reason.", ("reason",), registry=registry)
        self._rejections = {reason: rejections.labels(reason) for reason in REASONS}
        self._photos_under_way = Gauge(
            "seamline_photos_under_way", "Photos that wait or are worked on.", registry=registry
        )
        self._photos_limit = Gauge(
            "seamline_photos_limit", "Photos under way from which on more are refused.", registry=registry
        )
        self._bytes_under_way = Gauge(
            "seamline_body_bytes_under_way", "Bytes of requests' bodies that are held.", registry=registry
        )
        detections = Counter("seamline_detections", "Detections answered, by class.", ("class",), registry=registry)
        self._detections = [detections.labels(name.encode("utf-8", "replace").decode()) for name in class_names]
        self._scores = Histogram(
            "seamline_detection_score", "Scores of the detections answered.", registry=registry, buckets=SCORES
        )
        self._model = Gauge(
            "seamline_model_info", "The model that answers.", ("name", "revision", "family", "precision"),
            registry=registry,
        )  # fmt: skip

    def model(self, name: str, revision: str, family: str, precision: str) -> None:
        """Say which model answers; once, before the first request."""
        self._model.labels(name, revision, family, precision).set(1)

    def photos_limit(self, photos: int) -> None:
        """Say how many photos may be under way."""
        self._photos_limit.set(photos)

    def request_done(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answer, whatever it was; `route` is one of ROUTES, never a path as it was sent."""
        route = route if route in self._request_seconds else OTHER
        self._requests.labels(route, method if method in METHODS else OTHER, str(status)).inc()
        self._request_seconds[route].observe(seconds)

    def photo_done(
        self, outcome: str, parts_ms: Mapping[str, float], classes: Iterable[int] = (), scores: Iterable[float] = ()
    ) -> None:
        """Count a photo.

        Args:
            outcome: one of OUTCOMES.
            parts_ms: milliseconds of those of PARTS that it went through; others are passed over.
            classes: of its detections, indices of class_names.
            scores: of its detections, from 0 to 1.
        """
        self._photos[outcome if outcome in self._photos else OTHER].inc()
        for part, milliseconds in parts_ms.items():
            if part in self._photo_seconds:
                self._photo_seconds[part].observe(milliseconds / 1000)
        for index in classes:
            self._detections[index].inc()
        for score in scores:
            self._scores.observe(score)

    def rejected(self, reason: str) -> None:
        """Count a refusal; `reason` is one of REASONS. The answer to it is a request that was done as well."""
        self._rejections[reason if reason in self._rejections else OTHER].inc()

    def under_way(self, photos: int, body_bytes: int) -> None:
        """Say how many photos and bytes of bodies are held now."""
        self._photos_under_way.set(photos)
        self._bytes_under_way.set(body_bytes)

    def page(self) -> tuple[bytes, str]:
        """The answer at /metrics and its media type: Prometheus' text format, which everything that scrapes reads."""
        return generate_latest(WithoutCreated(self.registry)), CONTENT_TYPE_PLAIN_0_0_4


class WithoutCreated(Collector):
    """A registry's metrics without when each series began, which doubles the counters and is used by nobody.

    The package's own switch for that is one for the whole process.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry

    def collect(self) -> Iterable[Metric]:
        for metric in self.registry.collect():
            metric.samples = [sample for sample in metric.samples if sample.name != f"{metric.name}_created"]
            yield metric
