"""Each limit of the service: what comes beyond it is refused at once, in a sentence, and costs nothing afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import resource
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from seamline.service import admission, bodies, protocol, requests, running
from seamline.service.admission import Admission
from seamline.service.hosts import check_host
from seamline.service.keys import Keys
from seamline.service.listening import BACKLOG
from seamline.service.problems import Problem
from seamline.service.settings import MEGABYTE, Settings
from tests.service.held import BROKEN, FAILING, Held, held, until
from tests.service.served import Reply, has_ended, photo_request, read_reply, request

SHORT = 0.3  # seconds, where the service would give many
LARGE = 20 * MEGABYTE  # more than the sockets' buffers hold
KEY = "a-key-of-the-tests"


@pytest.fixture(scope="module")
def plain() -> Iterator[Held]:
    """A service with the limits that it has by itself, for tests that leave it as they find it."""
    with held() as service:
        service.detector.gate.set()
        yield service


@pytest.fixture(scope="module")
def guarded() -> Iterator[Held]:
    with held(keys=Keys(["another-key-of-the-tests", KEY])) as service:
        yield service


def trickle(connection: socket.socket, piece: bytes) -> Reply:
    """Send the same again and again, a little at a time, until the other side answers."""
    connection.settimeout(0.05)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        connection.sendall(piece)
        try:
            connection.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            continue
        connection.settimeout(20)
        return read_reply(connection)
    raise AssertionError("no answer")


class TestHeaders:
    @pytest.mark.parametrize("begin", [b"G", b"GET / HTTP/1.1\r\nHost: localhost\r\nA: b"])
    def test_that_stop_coming_are_given_up(self, begin: bytes) -> None:
        with held(Settings(header_seconds=SHORT)) as service, service.connect() as connection:
            connection.sendall(begin)
            reply = read_reply(connection)
            assert (reply.status, reply.detail) == (408, "The headers arrived too slowly.")
            assert has_ended(connection)

    def test_that_come_slowly_are_given_up(self) -> None:
        with held(Settings(header_seconds=SHORT)) as service, service.connect() as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n")
            assert trickle(connection, b"A: b\r\n").status == 408

    def test_of_a_second_request_have_the_same_time(self) -> None:
        with held(Settings(header_seconds=SHORT)) as service, service.connect() as connection:
            connection.sendall(request())
            assert read_reply(connection).status == 200
            connection.sendall(b"GET ")
            assert read_reply(connection).status == 408

    def test_a_connection_without_a_byte_is_closed_without_an_answer(self) -> None:
        """A browser that opened it in advance would take an answer for that to its next request."""
        with held(Settings(header_seconds=SHORT)) as service, service.connect() as connection:
            assert has_ended(connection)

    @pytest.mark.parametrize(
        "data",
        [
            request(headers={"A": "x" * 40_000}),
            request(headers={f"A{number}": "x" for number in range(6000)}),
            request(path="/" + "x" * 40_000),
            b"GET /" + b"x" * 1_000_000,
            b"GET / HTTP/1.1\r\nA: " + b"x" * 1_000_000,
            b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200_000,
        ],
    )
    def test_that_are_too_large_are_refused(self, data: bytes, plain: Held) -> None:
        with plain.connect() as connection:
            connection.sendall(data)
            reply = read_reply(connection)
            assert (reply.status, reply.detail) == (431, "The headers are too large; at most 32,768 bytes are read.")
            assert has_ended(connection)

    def test_of_30_kb_are_read(self, plain: Held) -> None:
        assert plain.ask(request(headers={"A": "x" * 30_000})).status == 200

    @pytest.mark.parametrize(
        "around", [b"0\r\n" + b"A: b\r\n" * 10_000, b"0\r\nA: " + b"x" * 50_000, b"1;a=b\r\nx\r\n" * 9000]
    )
    def test_what_stands_around_chunks_has_a_limit_too(self, around: bytes, plain: Held) -> None:
        head = request("POST", "/v1/predict", {"Transfer-Encoding": "chunked", "Content-Type": "image/png"})
        assert plain.ask(head + around).status == 431

    def test_behind_a_body_are_left_out(self) -> None:
        with held(keys=Keys([KEY])) as service:
            head = request("POST", "/v1/predict", {"Transfer-Encoding": "chunked", "Content-Type": "image/png"})
            assert service.ask(head + f"1\r\na\r\n0\r\nX-API-Key: {KEY}\r\n\r\n".encode()).status == 401


class TestUnreadable:
    @pytest.mark.parametrize(
        ("data", "status"),
        [
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),  # TLS
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
            (request(version="2.0"), 505),
            (request(version="0.9"), 505),
            (b"GET /\r\n\r\n", 505),
            (request(headers={"Host": None}), 400),
            (request(headers={"host": "localhost"}), 400),  # a second one
            (request("BREW"), 400),
            (request("CONNECT", "localhost:1"), 405),
            (request("POST", headers={"Transfer-Encoding": "gzip"}), 400),
            (request("POST", headers={"Transfer-Encoding": "chunked"}, body=b"x"), 400),
            (request("POST", headers={"Content-Length": "-1"}), 400),
            (request("POST", headers={"Content-Length": "1" + 30 * "0"}), 400),
            (request("POST", headers={"Content-Length": "1, 2"}), 400),
            (request("POST", headers={"Content-Length": "1", "content-length": "2"}), 400),
            (request("POST", headers={"Transfer-Encoding": "chunked"}) + b"zz\r\n", 400),
            (request(headers={"A ": "b"}), 400),
            (request(headers={"A": "b\nC: d"}), 400),
            (request(headers={"A": "b\x00"}), 400),
            (request(path="http://localhost"), 400),
        ],
    )
    def test_is_answered_with_problem_details_and_the_end(self, data: bytes, status: int, plain: Held) -> None:
        with plain.connect() as connection:
            connection.sendall(data)
            reply = read_reply(connection)
            assert reply.status == status
            assert reply.detail
            assert has_ended(connection)

    def test_refusal_reaches_a_client_that_is_still_sending(self, plain: Held) -> None:
        with plain.connect() as connection:
            connection.sendall(b"\0" * LARGE)
            assert read_reply(connection).status == 400


class TestOtherProtocols:
    def test_a_body_is_read_though_h2c_is_offered(self) -> None:
        """Java's client offers it with each request."""
        offers = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQ"}
        with held() as service, service.connect() as connection:
            service.detector.gate.set()
            connection.sendall(photo_request(b"first", headers=offers) + photo_request(b"second"))
            assert [read_reply(connection).status for _ in range(2)] == [200, 200]
            data = photo_request(b"third", headers=offers)
            connection.sendall(data[:-3])
            time.sleep(0.05)
            connection.sendall(data[-3:])
            assert read_reply(connection).status == 200
            assert service.detector.seen == [b"first", b"second", b"third"]

    def test_a_request_for_a_websocket_is_answered_as_any(self, plain: Held) -> None:
        assert plain.ask(request(headers={"Connection": "Upgrade", "Upgrade": "websocket"})).status == 200


class TestPipelining:
    def test_answers_come_in_order(self) -> None:
        with held() as service, service.connect() as connection:
            connection.sendall(photo_request(b"x") + request() + request(path="/none"))
            service.detector.gate.set()
            assert [read_reply(connection).status for _ in range(3)] == [200, 200, 404]

    def test_what_was_asked_before_garbage_is_answered(self) -> None:
        with held() as service, service.connect() as connection:
            connection.sendall(photo_request(b"x") + b"\0\0\0\0")
            until(lambda: service.detector.seen == [b"x"])
            service.detector.gate.set()
            reply = read_reply(connection)
            assert (reply.status, reply.headers["connection"]) == (200, "close")
            assert has_ended(connection)

    def test_a_flood_is_not_kept(self) -> None:
        with held() as service, service.connect() as connection:
            connection.sendall(photo_request(b"x") + request() * 1000)
            until(lambda: service.detector.seen == [b"x"])
            [one] = service.connections
            assert len(one.pipeline) <= protocol.MOST_PIPELINED
            service.detector.gate.set()
            assert read_reply(connection).status == 200

    def test_of_many_requests_on_a_connection_are_counted_one_by_one(self, plain: Held) -> None:
        with plain.connect() as connection:
            for _ in range(3):
                connection.sendall(request(headers={"A": "b" * 20_000}))
                assert read_reply(connection).status == 200


class TestBodies:
    @pytest.fixture(autouse=True)
    def shorter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bodies, "GRACE_SECONDS", SHORT)

    def test_that_stop_coming_are_given_up(self) -> None:
        with held() as service, service.connect() as connection:
            connection.sendall(photo_request(b"x" * 1000)[:-1])
            reply = read_reply(connection)
            assert (reply.status, reply.detail) == (408, "The body arrived too slowly.")

    def test_that_trickle_are_given_up(self) -> None:
        with held() as service, service.connect() as connection:
            connection.sendall(photo_request(b"x" * MEGABYTE)[: -MEGABYTE + 10])
            assert trickle(connection, b"x").status == 408

    def test_may_begin_slowly(self) -> None:
        with held() as service, service.connect() as connection:
            service.detector.gate.set()
            asked = photo_request(b"x" * 1000)
            for piece in (asked[:-1000], asked[-1000:-999], asked[-999:]):
                time.sleep(SHORT / 6)
                connection.sendall(piece)
            assert read_reply(connection).status == 200

    def test_have_a_time_in_all(self) -> None:
        with held(Settings(body_seconds=SHORT)) as service, service.connect() as connection:
            connection.sendall(photo_request(b"x" * LARGE)[:1000])
            assert trickle(connection, b"x" * 10_000).status == 408

    def test_that_come_just_when_their_time_is_over_have_no_more_of_it(self) -> None:
        pieces = iter(range(10))

        async def receive() -> dict[str, Any]:
            await asyncio.sleep(0)
            time.sleep(0.2)  # the time is over, and a part is there, before anybody can look
            return {"type": "http.request", "body": b"x" * 10_000, "more_body": next(pieces) < 9}

        counts = Admission(Settings(body_seconds=0.1))
        with pytest.raises(Problem, match="arrived too slowly"):
            asyncio.run(bodies.read_body(receive, None, counts))
        assert counts.body_bytes == 0 and next(pieces) <= 3

    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_that_nobody_reads_have_a_time_too(self, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Those of a request that has been answered."""
        monkeypatch.setattr(requests, "LINGER_SECONDS", SHORT)
        with held(Settings(header_seconds=SHORT)) as service, service.connect() as connection:
            connection.sendall(request(method, headers={"Content-Length": str(10**15)}) + b"x" * 1000)
            assert read_reply(connection).status == (200 if method == "GET" else 405)
            with pytest.raises(ConnectionError):
                for _ in range(200):
                    connection.sendall(b"x")
                    time.sleep(0.02)

    def test_may_take_longer_than_headers_may(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bodies, "GRACE_SECONDS", 20)
        with held(Settings(header_seconds=SHORT)) as service, service.connect() as connection:
            service.detector.gate.set()
            asked = photo_request(b"x" * 1000)
            connection.sendall(asked[:-500])
            time.sleep(3 * SHORT)
            connection.sendall(asked[-500:])
            assert read_reply(connection).status == 200

    def test_that_cannot_be_read_to_their_end_are_waited_for_by_nobody(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bodies, "GRACE_SECONDS", 600)
        monkeypatch.setattr(protocol, "ENDING_SECONDS", 600)
        with held(Settings(body_seconds=600)) as service, service.connect() as connection:
            head = request("POST", "/v1/predict", {"Transfer-Encoding": "chunked", "Content-Type": "image/png"})
            connection.sendall(head + b"5\r\nhello\r\n")
            until(lambda: service.admission.body_bytes == 5)
            connection.sendall(b"not a length\r\n")
            assert read_reply(connection).status == 400
            until(lambda: service.admission.body_bytes == 0 and not service.server.server_state.tasks)

    @pytest.mark.parametrize("way", ["too large", "unreadable"])
    def test_after_a_refusal_are_read_up_to_a_limit(self, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
        for module, name in ((requests, "LINGER"), (protocol, "ENDING")):
            monkeypatch.setattr(module, f"{name}_SECONDS", 600)
            monkeypatch.setattr(module, f"{name}_BYTES", MEGABYTE)
        with held(Settings(body_bytes=1000)) as service, service.connect() as connection:
            asked = request("POST", "/v1/predict", {"Content-Length": str(10**9), "Content-Type": "image/png"})
            connection.sendall(asked if way == "too large" else b"not HTTP\r\n\r\n")
            assert read_reply(connection).status == (413 if way == "too large" else 400)
            with pytest.raises(ConnectionError):
                for _ in range(200):
                    connection.sendall(b"x" * MEGABYTE)

    @pytest.mark.parametrize(
        ("encoding", "status"), [("", 200), ("identity", 200), ("Identity", 200), ("gzip", 415), ("br", 415)]
    )
    def test_are_not_unpacked(self, encoding: str, status: int, plain: Held) -> None:
        assert plain.ask(photo_request(b"x", headers={"Content-Encoding": encoding})).status == status

    def test_too_large_by_its_own_word_is_refused_before_it_comes(self) -> None:
        with held(Settings(body_bytes=1000)) as service, service.connect() as connection:
            connection.sendall(photo_request(b"x" * 1001)[:-1001])
            reply = read_reply(connection)
            assert (reply.status, reply.detail) == (413, "The body is too large; at most 1,000 bytes are taken.")

    def test_too_large_in_chunks_is_refused_when_it_is(self) -> None:
        with held(Settings(body_bytes=1000)) as service, service.connect() as connection:
            head = request("POST", "/v1/predict", {"Transfer-Encoding": "chunked", "Content-Type": "image/png"})
            connection.sendall(head + b"3e9\r\n" + b"x" * 1001)
            assert read_reply(connection).status == 413
            connection.sendall(b"\r\n0\r\n\r\n" + request())
            assert read_reply(connection).status == 200

    def test_of_all_requests_have_a_limit_and_are_given_back(self) -> None:
        with held(Settings(bodies_bytes=2500)) as service, service.connect() as first, service.connect() as second:
            for connection in (first, second):
                connection.sendall(photo_request(b"x" * 1000))
            until(lambda: service.admission.body_bytes == 2000)
            reply = service.ask(photo_request(b"x" * 1000))
            assert (reply.status, reply.headers["retry-after"]) == (503, "1")
            assert service.admission.body_bytes == 2000
            service.detector.gate.set()
            assert (read_reply(first).status, read_reply(second).status) == (200, 200)
            assert service.ask(photo_request(b"x" * 1000)).status == 200

    def test_of_a_client_that_goes_are_given_back(self) -> None:
        with held() as service:
            with service.connect() as connection:
                connection.sendall(photo_request(b"x" * 100_000)[:-1])
                until(lambda: service.admission.body_bytes > 90_000)
            until(lambda: service.admission.body_bytes == 0)

    def test_a_client_that_waits_for_a_word_is_given_it(self) -> None:
        with held() as service, service.connect() as connection:
            service.detector.gate.set()
            data = photo_request(b"xyz", headers={"Expect": "100-continue"})
            connection.sendall(data[:-3])
            assert read_reply(connection).status == 100
            connection.sendall(data[-3:])
            assert read_reply(connection).status == 200

    def test_a_json_of_many_values_is_refused_before_it_is_read(self, plain: Held) -> None:
        body = b'{"images":[' + b"{}," * 100_000 + b"{}]}"
        reply = plain.ask(request("POST", "/v1/predict", {"Content-Type": "application/json"}, body))
        assert (reply.status, reply.detail) == (413, "The JSON has too many parts; it may have { at most 4,000 times.")

    def test_a_refusal_does_not_send_the_body_back(self, plain: Held) -> None:
        body = json.dumps({"image": {"base64": ""}, "masks": "x" * 100_000}).encode()
        reply = plain.ask(request("POST", "/v1/predict", {"Content-Type": "application/json"}, body))
        assert reply.status == 422
        assert len(reply.detail) < 300


class TestQueue:
    @pytest.mark.parametrize(
        ("version", "headers"),
        [("1.1", {}), ("1.1", {"Connection": "close"}), ("1.0", {}), ("1.1", {"Expect": "100-continue"})],
    )
    def test_a_full_one_refuses_at_once_also_a_client_that_is_still_sending(
        self, version: str, headers: dict[str, str]
    ) -> None:
        with held(Settings(queue=1)) as service, service.connect() as first, service.connect() as other:
            first.sendall(photo_request(b"x"))
            until(lambda: service.admission.photos == 1)
            headers = {"Content-Type": "image/png", "Content-Length": str(LARGE), **headers}
            other.sendall(request("POST", "/v1/predict", headers, version=version))
            begun = time.monotonic()
            other.recv(1, socket.MSG_PEEK)  # the answer is there before the body is
            assert time.monotonic() - begun < 2
            other.sendall(b"x" * LARGE)  # a client that sends all before it reads
            reply = read_reply(other)
            assert reply.status == 503
            assert 1 <= int(reply.headers["retry-after"]) <= 30
            assert "try again in" in reply.detail
            assert service.admission.body_bytes == 1
            service.detector.gate.set()
            assert read_reply(first).status == 200
            if version == "1.1" and headers.keys().isdisjoint({"Connection", "Expect"}):
                other.sendall(request())
                assert read_reply(other).status == 200
            else:
                assert has_ended(other)

    def test_many_photos_find_room_or_none_is_taken(self) -> None:
        images = [{"base64": "eA=="}] * 3
        body = json.dumps({"images": images}).encode()
        ask = request("POST", "/v1/predict", {"Content-Type": "application/json"}, body)
        with held(Settings(queue=4)) as service, service.connect() as first:
            first.sendall(ask)
            until(lambda: service.admission.photos == 3)
            assert service.ask(ask).status == 503
            assert service.admission.photos == 3

    def test_a_client_that_goes_leaves_its_place_to_another(self) -> None:
        """Its photo is not begun; one that has begun counts until it has ended."""
        with held(Settings(queue=3)) as service:
            connections = [service.connect() for _ in range(3)]
            for number, connection in enumerate(connections):
                connection.sendall(photo_request(b"x%d" % number))
                until(lambda wanted=number + 1: service.admission.photos == wanted)  # type: ignore[misc]
            connections[1].close()
            until(lambda: service.admission.photos == 2)
            connections[0].close()
            until(lambda: service.admission.body_bytes == 2)
            assert service.admission.photos == 2
            connections.append(service.connect())
            connections[3].sendall(photo_request(b"x3"))
            until(lambda: service.admission.photos == 3)
            service.detector.gate.set()
            assert [read_reply(connections[number]).status for number in (2, 3)] == [200, 200]
            assert service.detector.seen == [b"x0", b"x2", b"x3"]

    def test_an_answer_has_its_time(self) -> None:
        with held(Settings(answer_seconds=1)) as service:
            reply = service.ask(photo_request(b"x"))
            assert (reply.status, reply.detail) == (504, "The answer took more than 1 s.")

    def test_a_photo_that_cannot_be_used_and_one_that_fails_leave_their_places(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        with held(Settings(queue=1)) as service:
            service.detector.gate.set()
            reply = service.ask(photo_request(BROKEN))
            assert (reply.status, reply.detail) == (422, "image: is broken.")
            assert service.ask(photo_request(FAILING)).status == 500
            assert service.ask(photo_request(b"x")).status == 200
        assert [record.name for record in caplog.records] == ["seamline.service"]  # nothing of asyncio's, say

    @pytest.mark.parametrize("failure", [ConnectionError("of ours"), TimeoutError("of ours")])
    def test_a_failure_that_looks_like_a_client_gone_is_answered_too(
        self, failure: Exception, caplog: pytest.LogCaptureFixture
    ) -> None:
        with held() as service:
            service.detector.gate.set()
            service.detector.failure = failure
            assert service.ask(photo_request(FAILING)).status == 500

    def test_of_many_photos_that_fail_nothing_is_left(self, caplog: pytest.LogCaptureFixture) -> None:
        body = json.dumps({"images": [{"base64": "ZmFpbGluZw=="}] * 8}).encode()
        with held() as service:
            service.detector.gate.set()
            ask = request("POST", "/v1/predict", {"Content-Type": "application/json"}, body)
            assert service.ask(ask).status == 500
            assert service.ask(photo_request(b"x")).status == 200


class TestConnections:
    def test_beyond_their_number_are_answered_also_while_they_send(self) -> None:
        with held(Settings(connections=2)) as service:
            connections = [service.connect() for _ in range(2)]
            until(lambda: len(service.connections) == 2)
            with service.connect() as other:
                other.sendall(photo_request(b"x" * LARGE))
                reply = read_reply(other)
                assert (reply.status, reply.headers["retry-after"]) == (503, "1")
                assert "many connections" in reply.detail
            for connection in connections:
                connection.sendall(request())
                assert read_reply(connection).status == 200
                connection.close()
            until(lambda: not service.connections)
            assert service.ask(request()).status == 200

    @pytest.mark.parametrize("headers", [{}, {"Connection": "close"}])
    def test_whose_client_takes_no_answer_are_cut(
        self, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(running, "IDLE_SECONDS", SHORT)
        monkeypatch.setattr(protocol, "UNREAD_SECONDS", SHORT)
        with held() as service, service.connect() as connection:
            service.app._openapi = b" " * LARGE
            connection.sendall(request(path="/openapi.json", headers=headers))
            until(lambda: len(service.connections) == 1)
            until(lambda: not service.connections)

    def test_whose_client_takes_no_answers_to_many_requests_are_cut(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(requests, "SEND_SECONDS", SHORT)
        with held() as service, service.connect() as connection:
            service.app._openapi = b" " * LARGE
            connection.sendall(request(path="/openapi.json") * 3)
            until(lambda: len(service.connections) == 1)
            until(lambda: not service.connections)

    def test_that_end_badly_leave_no_timer(self) -> None:
        """uvicorn keeps the idle timer of one that was reset, and so all of it, for as long as it runs."""
        with held() as service:
            with service.connect() as connection:
                connection.sendall(request())
                assert read_reply(connection).status == 200
                [one] = service.connections
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # closed with a reset
            until(lambda: not service.connections)
            assert one.timeout_keep_alive_task is None

    def test_far_beyond_their_number_are_cut_without_an_answer(self) -> None:
        with held(Settings(connections=1)) as service, contextlib.ExitStack() as stack:
            begun = [stack.enter_context(service.connect()) for _ in range(protocol.REFUSED)]
            for connection in begun[1:]:
                assert read_reply(connection).status == 503
            assert len(service.connections) == protocol.REFUSED
            with service.connect() as other, contextlib.suppress(ConnectionError):
                assert other.recv(1) == b""

    def test_that_have_ended_leave_no_timer_of_a_refusal(self) -> None:
        with held(Settings(connections=1)) as service, service.connect() as first:
            until(lambda: len(service.connections) == 1)
            with service.connect() as other:
                assert read_reply(other).status == 503
                [refused] = [one for one in service.connections if one._is_ended]
                until(lambda: refused._cut is not None)
            until(lambda: len(service.connections) == 1)
            assert refused._cut.cancelled()
            first.sendall(request())
            assert read_reply(first).status == 200

    def test_one_too_many_that_has_gone_is_not_in_the_log(self, caplog: pytest.LogCaptureFixture) -> None:
        """Where a client has closed its side, its end of the connection is gone as soon as it is written to."""
        with held(Settings(connections=1)) as service, service.connect():
            until(lambda: len(service.connections) == 1)
            [one] = service.connections
            one.loop.call_soon_threadsafe(time.sleep, SHORT)  # so that it is accepted after it was closed
            service.connect().close()
            until(lambda: b'seamline_rejections_total{reason="connections_full"} 1.0' in service.app.metrics.page()[0])
            until(lambda: len(service.connections) == 1)
        assert caplog.text == ""

    @pytest.mark.parametrize(
        ("soft", "hard", "connections", "limit"),
        [
            (1024, 4096, 899, 4096),  # a quarter of what 500 other files leave
            (1024, 1024, 131, 1024),
            (256, 256, 1, 256),
            (1024, 1_000_000, 1000, 4500),
            (1024, resource.RLIM_INFINITY, 1000, 4500),
            (20_000, 20_000, 1000, 20_000),
        ],
    )
    def test_are_no_more_than_there_may_be_open_files_for(
        self, soft: int, hard: int, connections: int, limit: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limits = [(soft, hard)]
        monkeypatch.setattr(resource, "getrlimit", lambda kind: limits[-1])
        monkeypatch.setattr(resource, "setrlimit", lambda kind, pair: limits.append(pair))
        assert running.within_open_files(Settings()) == Settings(connections=connections)
        assert limits[-1] == (limit, hard)

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how long a queue may be")
    def test_wait_in_a_long_queue_and_are_accepted_some_at_a_time(self) -> None:
        """Each that is accepted is an open file, before it can be cut as one too many."""
        with held() as service:
            assert service.server.config.backlog == running.ACCEPTED_AT_ONCE
            [listening] = service.server.servers[0].sockets
            information = listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
            longest = int(Path("/proc/sys/net/core/somaxconn").read_text())
            assert struct.unpack_from("I", information, 28) == (min(BACKLOG, longest),)  # tcpi_sacked

    def test_of_a_client_that_goes_are_counted_and_logged_as_that(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO", "seamline.service")
        with held(Settings(access_log=True)) as service:
            with service.connect() as connection:
                connection.sendall(photo_request(b"x"))
                until(lambda: service.admission.photos == 1)
            counted = b'seamline_requests_total{method="POST",route="predict",status="499"} 1.0'
            until(lambda: counted in service.app.metrics.page()[0])
            until(lambda: "POST predict 499 " in caplog.text)

    def test_a_half_that_is_closed_is_a_client_that_has_gone(self) -> None:
        with held(Settings(queue=2)) as service, service.connect() as first, service.connect() as half:
            first.sendall(photo_request(b"x"))
            until(lambda: service.admission.photos == 1)
            half.sendall(photo_request(b"y"))
            until(lambda: service.admission.photos == 2)
            half.shutdown(socket.SHUT_WR)
            until(lambda: service.admission.photos == 1)


def test_retry_after_is_half_a_minute_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(admission, "time", SimpleNamespace(monotonic=lambda: now[0]))
    counts = Admission(Settings(queue=12))
    counts.take_photos(12)
    assert counts.retry_seconds() == 1  # nothing is known yet
    for seconds in (0, 0.5, 10):  # of the second and of the third photo
        now[0] += seconds
        counts.photo_ended()
    assert counts.retry_seconds() == 30  # not the 48 that nine more take
    counts.take_photos(1)
    with pytest.raises(Problem) as refused:
        counts.take_photos(3)
    assert refused.value.headers["Retry-After"] == "30"


class TestStopping:
    def test_it_is_not_ready_any_more_and_alive(self) -> None:
        with held() as service:
            service.app.is_stopping = True
            assert service.ask(request(path="/v2/health/ready")).status == 503
            assert service.ask(request(path="/v2/health/live")).status == 200

    def test_what_does_not_end_in_time_is_refused_in_a_sentence(self) -> None:
        with held(Settings(answer_seconds=1)) as service, service.connect() as connection:
            connection.sendall(photo_request(b"x" * 1000)[:-1])
            until(lambda: service.admission.body_bytes > 0)
            service.server.should_exit = True
            reply = read_reply(connection)
            assert (reply.status, reply.detail) == (503, "The service is stopping.")
            assert has_ended(connection)


class TestKeys:
    @pytest.mark.parametrize(
        ("headers", "known"),
        [
            ({}, False),
            ({"X-API-Key": KEY}, True),
            ({"X-API-Key": "another-key-of-the-tests"}, True),
            ({"Authorization": f"Bearer {KEY}"}, True),
            ({"Authorization": f"bearer  {KEY}"}, True),
            ({"Authorization": f"Basic {KEY}"}, False),
            ({"Authorization": KEY}, False),
            ({"Authorization": "Bearer"}, False),
            ({"Authorization": "Bearer "}, False),
            ({"X-API-Key": ""}, False),
            ({"X-API-Key": KEY[:-1]}, False),
            ({"X-API-Key": KEY + "x"}, False),
            ({"X-API-Key": KEY.upper()}, False),
            ({"X-API-Key": "\xff" * 20}, False),
            ({"Authorization": "Bearer of-a-proxy-in-front", "X-API-Key": KEY}, True),
            ({"Authorization": f"Bearer {KEY}", "X-API-Key": "x"}, True),
            ({"Authorization": "Bearer x", "X-API-Key": "x"}, False),
        ],
    )
    def test_are_asked_for(self, headers: dict[str, str], known: bool, guarded: Held) -> None:
        reply = guarded.ask(request(headers=headers))
        assert reply.status == (200 if known else 401)
        if not known:
            assert reply.headers["www-authenticate"] == "Bearer"
            assert KEY not in reply.detail

    def test_are_not_asked_for_where_health_is(self) -> None:
        with held(keys=Keys([KEY])) as service:
            for path in ("/v2/health/live", "/v2/health/ready", "/openapi.json"):
                assert service.ask(request(path=path)).status == 200

    def test_are_asked_for_wherever_something_is_answered(self, guarded: Held) -> None:
        for path in ("/metrics", "/v2", "/v2/models/none", "/v1/catalogue/crop?id=a"):
            assert guarded.ask(request(path=path)).status == 401
        for path in ("/v1/predict", "/v1/embed", "/v1/search", "/v2/models/none/infer"):
            assert guarded.ask(photo_request(b"x", path)).status == 401

    def test_all_are_compared_whichever_is_sent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        keys = Keys([KEY, *(f"{number:016}" for number in range(9))])
        compared: list[tuple[bytes, bytes]] = []
        compare = hmac.compare_digest

        def noted(one: bytes, other: bytes) -> bool:
            compared.append((one, other))
            return compare(one, other)

        monkeypatch.setattr(hmac, "compare_digest", noted)
        for sent in (KEY, "0" * 16, "wrong", "0" * 15 + "8"):
            compared.clear()
            keys.knows(None, sent.encode())
            assert [len(one) for pair in compared for one in pair] == [32] * 20

    def test_the_body_is_not_read_without_one(self) -> None:
        with held(keys=Keys([KEY])) as service, service.connect() as connection:
            connection.sendall(photo_request(b"x" * 1000)[:-1000])
            assert read_reply(connection).status == 401


class TestHosts:
    @pytest.mark.parametrize(
        ("host", "origin", "status"),
        [
            ("localhost", None, 200),
            ("localhost:8000", None, 200),
            ("LOCALHOST.:8000", None, 200),
            ("127.0.0.1:1", None, 200),
            ("127.0.0.2:8000", None, 200),
            ("128.0.0.1:8000", None, 421),
            ("[::1]:8000", None, 200),
            ("", None, 421),
            ("evil.example", None, 421),
            ("localhost.evil.example", None, 421),
            ("127.0.0.1.evil.example:8000", None, 421),
            ("[::1].evil.example", None, 421),
            ("localhost:80@evil.example", None, 421),
            ("localhost@evil.example", None, 421),
            ("[::2]", None, 421),
            ("[::1", None, 421),
            ("0.0.0.0:8000", None, 421),
            ("allowed.example:8000", None, 200),
            ("Allowed.Example", None, 200),
            ("localhost:8000", "http://localhost:8000", 200),
            ("localhost:8000", "HTTP://LOCALHOST:8000", 200),
            ("localhost:8000", "http://localhost:3000", 403),
            ("localhost:8000", "http://127.0.0.1:8000", 403),
            ("localhost:8000", "http://evil.example", 403),
            ("localhost:8000", "http://localhost:8000.evil.example", 403),
            ("localhost:8000", "null", 403),
            ("localhost:8000", "", 403),
            ("localhost:8000", "file://localhost:8000", 403),
            ("localhost:8000", "https://allowed.example", 200),
            ("[::1]:8000", "http://[::1]:8000", 200),
        ],
    )
    def test_names_that_are_answered_to(self, host: str, origin: str | None, status: int) -> None:
        try:
            check_host(host, origin, ("allowed.example",), only_local=True)
        except Problem as problem:
            assert problem.status == status
        else:
            assert status == 200

    def test_any_may_lead_to_a_public_address(self) -> None:
        with held(only_local=False) as service:
            service.detector.gate.set()
            for host in ("evil.example", "[::1", "[", "]", "a b", "\xff", "x" * 20_000):
                self.asked_under(service, host)

    def asked_under(self, service: Held, host: str) -> None:
        assert service.ask(photo_request(b"x", "/v1/predict?masks=none", {"Host": host})).status == 200
        assert service.ask(photo_request(b"x", headers={"Host": host, "Origin": "http://other.example"})).status == 403
        assert service.ask(request("POST", "/v1/predict/", {"Host": host}, b"")).status == 404


class TestIds:
    @pytest.mark.parametrize("name", ["a", "A-z_0.9", "x" * 64])
    def test_of_the_caller_are_kept(self, name: str, plain: Held) -> None:
        assert plain.ask(request(headers={"X-Request-Id": name})).headers["x-request-id"] == name

    @pytest.mark.parametrize("name", ["", "a b", "x" * 65, "a/b", "\xe4", 'a"b', "a%0d%0ab: c"])
    def test_of_others_are_made(self, name: str, plain: Held) -> None:
        reply = plain.ask(request(path="/none", headers={"X-Request-Id": name}))
        assert len(reply.headers["x-request-id"]) == 16
        assert json.loads(reply.body)["instance"] == f"urn:request:{reply.headers['x-request-id']}"


def test_a_thread_that_asks_much_does_not_stop_another() -> None:
    """What is read and refused is not slowed down by a photo under way."""
    with held() as service, service.connect() as first:
        first.sendall(photo_request(b"x"))
        until(lambda: service.admission.photos == 1)
        statuses: list[int] = []
        threads = [
            threading.Thread(target=lambda: statuses.extend(service.ask(request()).status for _ in range(20)))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert statuses == [200] * 80
