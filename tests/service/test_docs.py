"""docs/service.md: every command, program, answer and configuration of it is tried on a running service."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import cv2
import httpx
import pytest

from seamline.images.reading import read_image
from seamline.service.client import Client, ServiceError
from seamline.service.settings import Settings
from seamline.verbs.catalogue import main as keep
from seamline.verbs.serve import parser
from tests.conftest import PROJECT
from tests.describers import make_classifier, make_embedder
from tests.service.certificates import make_certificates
from tests.tiny_encoder import DIMENSION
from tests.untrained import Untrained

PAGE = PROJECT / "docs" / "service.md"
TEXT = PAGE.read_text(encoding="utf-8")
WRITTEN = "127.0.0.1:8000"  # where the page takes the service to be
SHELL = ("pip", "seamline", "curl", "python", "chmod", "export", "printf")
WEAKEST = "0.02"  # nobody trained the model
START_SECONDS = 120
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
needs_caddy = pytest.mark.skipif(shutil.which("caddy") is None, reason="Caddy is not installed")


def blocks() -> list[str]:
    """What is indented by four, without text between."""
    found: list[list[str]] = [[]]
    for line in TEXT.splitlines():
        if line.startswith("    ") or (found[-1] and not line):
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    return [textwrap.dedent("\n".join(lines)).strip() for lines in found if lines]


def kind_of(block: str) -> str:
    first = block.split()[0]
    if first in SHELL:
        return "shell"
    if first == "{":
        return "json"
    if first in ("from", "import"):
        return "javascript" if "await fetch" in block else "python"
    return {"upstream": "nginx", '{"type":': "json", "garments.example.com": "caddy"}.get(first, "")


def of_kind(kind: str) -> list[str]:
    return [block for block in blocks() if kind_of(block) == kind]


def commands(first: str) -> list[str]:
    """Those of the shell's blocks that begin with this word, without remarks."""
    lines = [re.sub(r"\s{2,}# .*", "", line) for block in of_kind("shell") for line in block.splitlines()]
    return [line for line in lines if line.split()[0] == first]


def test_every_block_is_of_a_kind_that_is_tried() -> None:
    kinds = [kind_of(block) for block in blocks()]
    assert "" not in kinds, blocks()[kinds.index("")]
    assert set(kinds) == {"shell", "json", "python", "javascript", "nginx", "caddy"}
    assert "```" not in TEXT


class Place(NamedTuple):
    """Where the page's commands are run."""

    root: Path
    environment: dict[str, str]

    def run(self, *command: str) -> str:
        ran = subprocess.run(
            command,
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )
        assert ran.returncode == 0, f"{command}\n{ran.stdout}{ran.stderr}"
        return ran.stdout


@pytest.fixture(scope="module")
def place(untrained: Untrained, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A folder with all that the page takes to be there."""
    root = tmp_path_factory.mktemp("reader")
    shutil.copytree(untrained.models()["openvino"], root / "models" / "export" / "openvino_int8")
    make_classifier(root / "models" / "attributes")
    make_embedder(root / "models" / "embedder")
    (root / "photos").mkdir()
    for number, path in enumerate(untrained.images()[:3], 1):
        assert cv2.imwrite(str(root / "photos" / f"{number}.jpg"), read_image(path))
    shutil.copy(root / "photos" / "1.jpg", root / "photo.jpg")
    (root / "photos.csv").write_text("file_name,brand\nphotos/1.jpg,a\nphotos/2.jpg,b\n")
    words = ["--model", "models/export/openvino_int8", "--csv", "photos.csv", "--confidence", WEAKEST]
    with contextlib.chdir(root):
        keep(["add", "data/catalogue", *words])  # with the embedder that the page names
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    environment["PYTHONPATH"] = str(PROJECT)
    made = Place(root, environment)
    for line in commands("python") + commands("chmod"):
        made.run("bash", "-c", line)
    assert (root / "keys.txt").stat().st_mode & 0o777 == 0o600
    environment["SEAMLINE_KEY"] = (root / "keys.txt").read_text().strip()
    assert len(environment["SEAMLINE_KEY"]) > 40
    [exported] = commands("export")
    assert made.run("bash", "-c", f"{exported}; printf %s $SEAMLINE_KEY") == environment["SEAMLINE_KEY"]
    return made


@contextmanager
def started(place: Place, command: str) -> Iterator[str]:
    """Host and port of the service that a command of the page starts, at a free port."""
    words = [sys.executable, "-m", *command.split(), "--port", "0", "--confidence", WEAKEST]
    process = subprocess.Popen(
        words, cwd=place.root, env=place.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    watch = threading.Timer(START_SECONDS, process.kill)
    watch.start()
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        ready = re.fullmatch(r"ready on http://(?:127\.0\.0\.1|0\.0\.0\.0):(\d+) .*\n", said)
        assert ready, said + process.stdout.read()
        watch.cancel()
        yield f"127.0.0.1:{ready[1]}"
        process.send_signal(signal.SIGTERM)
        assert process.wait(START_SECONDS) == 0
    finally:
        watch.cancel()
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def service(place: Place) -> Iterator[str]:
    with started(place, commands("seamline")[0]) as at:
        yield at


@pytest.fixture(scope="module")
def service_with_keys(place: Place) -> Iterator[str]:
    [command] = [line for line in commands("seamline") if "--host 0.0.0.0" in line]
    with started(place, command) as at:
        yield at


@pytest.fixture(scope="module")
def service_with_models(place: Place) -> Iterator[str]:
    [command] = [line for line in commands("seamline") if "--catalogue" in line]
    with started(place, command) as at:
        yield at


@pytest.fixture
def at(request: pytest.FixtureRequest) -> str:
    """The service that a snippet is for: with keys where it has one."""
    snippet = request.node.callspec.params["snippet"]
    with_models = re.search(r"attributes=|/v1/(embed|search)", snippet)
    name = "service_with_keys" if "SEAMLINE_KEY" in snippet else "service_with_models" if with_models else "service"
    found: str = request.getfixturevalue(name)
    return found


@needs_curl
@pytest.mark.parametrize("snippet", [*commands("curl"), *commands("printf")])
def test_curl(place: Place, at: str, snippet: str) -> None:
    assert WRITTEN in snippet
    answer = json.loads(place.run("bash", "-c", snippet.replace("curl ", "curl --silent ").replace(WRITTEN, at)))
    if "/v1/about" in snippet:
        assert answer["model"]["name"] == "openvino_int8"
    elif "/v2/" in snippet:
        [instances] = answer["outputs"][0]["data"]
        assert json.loads(instances)
        return
    else:
        assert len(answer["images"]) == snippet.count("image=@") or len(answer["images"]) == 1
        assert all("error" not in image for image in answer["images"])
    for image in answer.get("images", []):
        assert "/v1/search" not in snippet or image["instances"][0]["matches"][0]["columns"] == {"brand": "a"}
        assert "attributes=" not in snippet or set(image["instances"][0]["attributes"]) == {"colour", "tone"}
        if "whole=" in snippet:
            assert len(image["embedding"]) == DIMENSION
            return
    assert any(image["instances"] for image in answer.get("images", [])) or "/v1/about" in snippet or "0.5" in snippet


@pytest.mark.parametrize("snippet", of_kind("python"), ids=lambda snippet: snippet.splitlines()[0])
def test_python(place: Place, at: str, snippet: str) -> None:
    said = place.run(sys.executable, "-c", snippet.replace(WRITTEN, at))
    assert said.strip()
    if "requests.post" in snippet:  # as the page says
        assert said == place.run(sys.executable, "-c", snippet.replace(WRITTEN, at).replace("requests", "httpx"))
    if "ServiceError" in snippet:
        assert re.search(r"^422 Unprocessable \w+ The model has no class 'no such class'", said, re.MULTILINE)
        assert {"1.jpg", "2.jpg", "3.jpg"} <= set(said.split())


@needs_node
@pytest.mark.parametrize("snippet", of_kind("javascript"), ids=["predict", "search"])
def test_javascript(place: Place, at: str, snippet: str) -> None:
    version = int(place.run("node", "--version").lstrip("v").split(".")[0])
    if version < 20:
        pytest.skip(f"Node.js {version} is installed; the page is for 20")
    said = place.run("node", "--input-type=module", "--eval", snippet.replace(WRITTEN, at))
    line = r"photos/\d\.jpg#\d+ [\d.]+\n" if "/v1/search" in snippet else r"\d 0\.\d+ \[ ([\d.]+, ){3}[\d.]+ \]\n"
    assert re.match(line, said)


def test_the_answers_have_what_those_of_the_page_have(place: Place, service: str, service_with_keys: str) -> None:
    answer, refusal, _ = map(json.loads, of_kind("json"))
    photos = [("image", ("a.jpg", (place.root / "photo.jpg").read_bytes())), ("image", ("b.jpg", b"damaged"))]
    found = httpx.post(f"http://{service}/v1/predict", files=photos, timeout=START_SECONDS)
    assert {"server-timing", "x-request-id"} <= set(found.headers)
    assert keys_in(found.json()["images"][0]["instances"][0]) == keys_in(answer["images"][0]["instances"][0])
    for one in (answer, found.json()):
        del one["images"][0]["instances"]
        del one["categories"]
    assert keys_in(found.json() | {"categories": []}) >= keys_in(answer)
    assert len(answer["model"]["revision"]) == len(found.json()["model"]["revision"])
    assert found.json()["images"][1]["error"].startswith("b.jpg: ")
    response = httpx.get(f"http://{service_with_keys}/v1/about", timeout=START_SECONDS)
    problem = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert problem == {**refusal, "instance": problem["instance"]}
    assert len(problem["instance"]) == len(refusal["instance"])


def test_a_search_has_what_that_of_the_page_has(place: Place, service_with_models: str) -> None:
    written = json.loads(of_kind("json")[2])
    photo = {"image": (place.root / "photo.jpg").read_bytes()}
    found = httpx.post(f"http://{service_with_models}/v1/search", files=photo, timeout=START_SECONDS).json()
    for one in (written, found):
        for match in one["images"][0]["instances"][0]["matches"]:
            assert match.pop("columns").keys() == {"brand"}
            match["duplicates"] = []
        one["images"][0]["instances"][0]["matches"] = match
        one["images"][0]["instances"] = one["images"][0]["instances"][0]
        del one["categories"]
    assert keys_in(found) == keys_in(written)


def keys_in(value: object) -> set[str]:
    """The paths of all keys."""
    if isinstance(value, dict):
        return {f"{key}/{inner}" for key, below in value.items() for inner in keys_in(below) | {""}}
    if isinstance(value, list):
        return {f"[{index}]/{inner}" for index, below in enumerate(value) for inner in keys_in(below) | {""}}
    return set()


# Behind a proxy


@pytest.fixture(scope="module")
def behind(place: Place) -> Iterator[str]:
    """The service that the page starts for a proxy."""
    [command] = [line for line in commands("seamline") if "--allow-host" in line]
    with started(place, command) as at:
        yield at


@contextmanager
def running_proxy(command: list[str], address: str, environment: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        host, _, port = address.rpartition(":")
        end = time.monotonic() + 60
        while True:
            try:
                socket.create_connection((host, int(port)), 1).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < end, process.communicate()[0]
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(30)
        process.communicate()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def check_proxied(client: Client, raw: httpx.Client, place: Place, behind: str) -> None:
    """What the page says of a service behind a proxy, whichever it is."""
    key = {"Authorization": f"Bearer {place.environment['SEAMLINE_KEY']}"}
    photos = sorted((place.root / "photos").iterdir())
    client.wait_until_ready(60)
    with Client(f"http://{behind}", place.environment["SEAMLINE_KEY"], trust_env=False) as direct:
        assert [*client.predict_all(photos * 3)] == [*direct.predict_all(photos * 3)]
        assert client.predict(photos, masks="png") == direct.predict(photos, masks="png")
    assert raw.get("/metrics", headers=key).status_code == 404
    assert httpx.get(f"http://{behind}/metrics", headers=key, timeout=START_SECONDS).status_code == 200
    own = raw.get("/v1/about", headers={"X-Request-Id": "mine"})
    assert (own.status_code, own.headers["x-request-id"]) == (401, "mine")
    for origin, status in (("https://garments.example.com", 200), ("https://evil.example", 403)):
        named = {"Host": "garments.example.com", "Origin": origin, "X-Forwarded-Host": "evil.example"}
        assert raw.get("/v1/about", headers={**key, **named}).status_code == status, origin
    with pytest.raises(ServiceError) as caught:
        client.predict(b"x" * (33 * 2**20))
    assert caught.value.status == 413
    with pytest.raises(ServiceError, match="is not an image that can be decoded") as caught:
        client.predict(b"x" * (31 * 2**20))  # under the limit: it is the service that refuses
    assert caught.value.status == 422


@needs_nginx
@pytest.mark.parametrize("uploads", ["", "proxy_request_buffering off;"], ids=["buffered", "passed on"])
def test_nginx(place: Place, behind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uploads: str) -> None:
    [written] = of_kind("nginx")
    port = free_port()
    make_certificates(tmp_path, ["localhost"])
    own = written.replace(WRITTEN, behind).replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl")
    own = re.sub(r"/etc/ssl/garments\.example\.com/\w+\.pem", str(tmp_path / "server.pem"), own)
    own = own.replace("client_max_body_size", f"{uploads} client_max_body_size")
    assert own.count(str(tmp_path)) == 2
    temporary = "".join(
        f"{name}_temp_path {tmp_path}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(
        f"daemon off; pid {tmp_path}/pid; error_log stderr; events {{}} http {{ access_log off; {temporary} {own} }}"
    )
    command = [str(NGINX), "-p", str(tmp_path), "-c", str(configuration), "-e", "stderr"]
    if os.geteuid() == 0:
        command += ["-g", "user root;"]
    address = f"https://localhost:{port}"
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    for name in [name for name in os.environ if "proxy" in name.lower()]:
        monkeypatch.delenv(name)
    with (
        running_proxy(command, f"127.0.0.1:{port}", place.environment),
        Client(address, place.environment["SEAMLINE_KEY"]) as client,
        httpx.Client(base_url=address, timeout=START_SECONDS) as raw,
    ):
        check_proxied(client, raw, place, behind)


@needs_caddy
def test_caddy(place: Place, behind: str, tmp_path: Path) -> None:
    [written] = of_kind("caddy")
    port = free_port()
    address = f"http://127.0.0.1:{port}"  # for its name Caddy would ask an authority on the web for a certificate
    own = written.replace(WRITTEN, behind).replace("garments.example.com {", f"http://:{port} {{")
    configuration = tmp_path / "Caddyfile"
    configuration.write_text(f"{{\n\tadmin off\n\tdefault_bind 127.0.0.1\n}}\n{own}\n")
    folders = dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"), str(tmp_path))
    command = ["caddy", "run", "--config", str(configuration), "--adapter", "caddyfile"]
    with (
        running_proxy(command, f"127.0.0.1:{port}", {**place.environment, **folders}),
        Client(address, place.environment["SEAMLINE_KEY"], trust_env=False) as client,
        httpx.Client(base_url=address, trust_env=False, timeout=START_SECONDS) as raw,
    ):
        check_proxied(client, raw, place, behind)


# What the page says


def section(title: str) -> str:
    return TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_the_source_is_where_the_page_says(place: Place) -> None:
    [command] = [line for line in commands("seamline") if "--source" in line]
    with started(place, command) as at:
        model = httpx.get(f"http://{at}/v1/about", timeout=START_SECONDS).json()["model"]
    assert model["source"] == "https://git.example/garments"
    assert "AGPL-3.0" in model["licence"]


def test_limits_are_those_of_the_service(service: str) -> None:
    text, own = section("Limits"), Settings()
    limits = httpx.get(f"http://{service}/v1/about", timeout=START_SECONDS).json()["limits"]
    assert f"{own.body_bytes // 2**20} MB; of all requests that are being read or answered: eight times that" in text
    assert own.bodies_bytes == 8 * own.body_bytes == 8 * limits["body_bytes"]
    assert f"| photos in a request | {own.photos} |" in text
    assert f"{own.pixels // 10**6} million" in text
    assert f"| {own.queue}; a request beyond that" in text
    seconds = own.header_seconds, own.body_seconds, own.answer_seconds
    assert "{:g} s, {:g} s (and at least 4 KB a second), {:g} s".format(*seconds) in text
    assert f"| connections | {own.connections:,} |" in text
    assert limits["photos"] == own.photos and limits["queue"] == own.queue and limits["pixels"] == own.pixels


def test_every_option_that_is_named_is_there_and_every_one_that_is_there_is_named() -> None:
    options = {word for action in parser()._actions for word in action.option_strings if word.startswith("--")}
    elsewhere = {"--form", "--header", "--data-binary", "--json", "--format", "--cpus"}  # curl's, predict's, Docker's
    named = set(re.findall(r"--[a-z][a-z-]+", TEXT))
    assert named - elsewhere <= options
    assert options - named <= {"--help", "--confidence", "--precision", "--device", "--port", "--access-log"}
    for words in re.findall(r"`(--[a-z-]+ \d+)`", TEXT):
        parser().parse_args(words.split())


def test_every_status_has_its_row() -> None:
    rows = re.findall(r"^\| (\d[\d, ]+) \|", section("Errors"), re.MULTILINE)
    named = {int(status) for row in rows for status in row.split(", ")}
    said = {404, 405}  # Starlette's
    for path in (PROJECT / "seamline" / "service").glob("*.py"):
        said |= {int(status) for status in re.findall(r"\bProblem\(\s*(\d{3})\b", path.read_text(encoding="utf-8"))}
    assert named == said | {429}  # which proxies answer


def test_messages_that_are_named_are_said() -> None:
    others = ("base/errors.py", "verbs/serve.py", "search/catalogue_facts.py")
    files = [*(PROJECT / "seamline" / "service").glob("*.py"), *(PROJECT / "seamline" / name for name in others)]
    code = "".join(path.read_text(encoding="utf-8") for path in files)
    code = re.sub(r'"\s*\n\s*f?"', "", code)  # of a message in several lines
    rows = re.findall(r"^\| (.+?) \| ", section("When something does not work"), re.MULTILINE)
    messages = [message for row in rows for message in re.findall(r"`([^`]+ [^`]+)`", row)]
    assert len(messages) >= 6
    for message in messages:
        for part in re.split(r"\.\.\.|\(Address already in use\)", message):
            words = part.strip(" :").removeprefix("seamline serve: ")
            assert words in code, message
