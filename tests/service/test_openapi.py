"""What /openapi.json says is so: thousands of requests made from it are answered as it describes, and none fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS
from schemathesis.config import SchemathesisConfig

from tests.describers import make_models
from tests.service.served import Served, photo_request, read_reply, request, served

# A photo and the name of a class can be described no further than as text, so what is as described may be refused.
NOT_KNOWN = "positive_data_acceptance"


@pytest.fixture(scope="module")
def service(untrained: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(untrained.models()["openvino"], tmp_path_factory.mktemp("service")) as service:
        yield service


def asked(service: Served, examples: int) -> Counter[tuple[str, int]]:
    """How many requests, as described and not so, had each status; raises where an answer is not as described."""
    address = f"http://{service.host}:{service.port}"
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json", config=SchemathesisConfig())
    schema.validate()
    seen: Counter[tuple[str, int]] = Counter()
    excluded = [CHECKS.get_one(NOT_KNOWN)]
    operations: Any = schema.get_all_operations()
    for operation in operations:
        for mode in GenerationMode:
            try_all(operation.ok(), mode, examples, address, excluded, seen)
    return seen


def try_all(
    operation: Any,
    mode: GenerationMode,
    examples: int,
    address: str,
    excluded: list[Any],
    seen: Counter[tuple[str, int]],
) -> None:
    @hypothesis.settings(
        max_examples=examples,
        database=None,
        derandomize=True,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(operation.as_strategy(generation_mode=mode))
    def one(case: Any) -> None:
        answer = case.call_and_validate(base_url=address, excluded_checks=excluded)
        seen[operation.label, answer.status_code] += 1

    try:
        one()
    except hypothesis.errors.Unsatisfiable:
        assert operation.label == "GET /v1/about"  # which has nothing that could be sent wrong


def test_requests_made_from_it_are_answered_as_it_says(service: Served, untrained: Any) -> None:
    seen = asked(service, 40)
    assert seen.total() >= 70
    assert {status for _, status in seen} >= {200, 422}
    assert service.ask(photo_request(untrained.images()[0].read_bytes())).status == 200
    assert service.log.read_text() == ""


def test_so_are_those_for_a_service_with_all_that_it_may_have(
    untrained: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("models")
    models = make_models(folder, untrained.models()["openvino"], untrained.images()[:3])
    with served(models.detector, folder, *models.options()) as service:
        seen = asked(service, 40)
        assert {label for label, _ in seen} >= {"POST /v1/embed", "POST /v1/search", "GET /v1/catalogue/crop"}
        assert service.ask(photo_request(models.photos[0].read_bytes(), "/v1/search")).status == 200
        assert service.log.read_text() == ""


@pytest.mark.thorough
def test_two_thousand_of_them(service: Served, untrained: Any) -> None:
    seen = asked(service, 1200)
    assert seen.total() >= 2000
    assert service.ask(photo_request(untrained.images()[0].read_bytes())).status == 200
    assert service.log.read_text() == ""


@pytest.mark.parametrize("method", ["DELETE", "PUT", "PATCH", "OPTIONS", "TRACE", "PROPFIND"])
@pytest.mark.parametrize(("path", "allowed"), [("/v1/predict", {"POST"}), ("/v1/about", {"GET", "HEAD"})])
def test_other_methods_are_refused_with_those_that_are_taken(
    method: str, path: str, allowed: set[str], service: Served
) -> None:
    reply = service.ask(request(method, path))
    assert reply.status == 405
    assert {one.strip() for one in reply.headers["allow"].split(",")} == allowed
    assert reply.detail == "This method is not allowed here."


def test_head_is_answered_without_a_body(service: Served) -> None:
    with service.connect() as connection:
        for path, status in (("/v1/about", 200), ("/none", 404), ("/v1/predict", 405)):
            connection.sendall(request("HEAD", path))
            assert read_reply(connection, with_body=False).status == status
        connection.sendall(request())
        assert read_reply(connection).status == 200
