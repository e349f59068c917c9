"""Attributes, vectors and similar garments over HTTP: those of the models and of the catalogue, whoever asks beside."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest

from seamline.base.errors import SeamlineError
from seamline.images.reading import read_image
from seamline.inference.embedder import Embedder
from seamline.search.catalogue import Catalogue, open_catalogue
from seamline.search.filters import Filters
from seamline.service.client import Answer, AsyncClient, Client, ServiceError
from seamline.service.schemas import About, Prediction
from seamline.service.search_schemas import Embedding, SearchAnswer
from seamline.service.settings import Settings
from seamline.verbs.catalogue import main as keep
from seamline.verbs.predict import main as predict
from seamline.verbs.serve import main as serve
from tests.conftest import PROJECT
from tests.describers import ATTRIBUTES, Models, make_embedder, make_models
from tests.service.running import running
from tests.tiny_encoder import DIMENSION
from tests.untrained import NAMES, WITHOUT_TORCH, Untrained

CONFIDENCE = 0.1


@pytest.fixture(scope="module")
def models(untrained: Untrained, tmp_path_factory: pytest.TempPathFactory) -> Models:
    return make_models(tmp_path_factory.mktemp("models"), untrained.models()["openvino"], untrained.images()[:6])


@pytest.fixture(scope="module")
def address(models: Models) -> Iterator[str]:
    with running(
        models.detector, attributes=models.attributes, embed=models.embed, catalogue=models.catalogue
    ) as address:
        yield address


@pytest.fixture(scope="module")
def plain(models: Models) -> Iterator[str]:
    """A service without any of it."""
    with running(models.detector) as address:
        yield address


@pytest.fixture(scope="module")
def catalogue(models: Models) -> Iterator[Catalogue]:
    with open_catalogue(models.catalogue) as catalogue:
        yield catalogue


def form(photos: list[Path]) -> list[tuple[str, tuple[str, bytes, str]]]:
    return [("image", (photo.name, photo.read_bytes(), "image/png")) for photo in photos]


def post(address: str, path: str, photos: list[Path], **options: Any) -> Any:
    fields = {"confidence": CONFIDENCE, **options}
    answer = httpx.post(f"{address}/v1/{path}", files=form(photos), data=fields, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refusal(address: str, path: str, **request: Any) -> tuple[int, str]:
    answer = httpx.post(f"{address}/v1/{path}", timeout=60, **request)
    return answer.status_code, answer.json().get("detail", "")


def as_json(photo: Path) -> dict[str, str]:
    return {"base64": base64.b64encode(photo.read_bytes()).decode(), "name": photo.name}


def test_predict_answers_what_the_command_writes(address: str, models: Models, tmp_path: Path) -> None:
    photos = models.photos[:3]
    options = ["--attributes", models.attributes, "--embed", models.embed, "--confidence", CONFIDENCE]
    predict([*map(str, [models.detector, *photos, "--out", tmp_path, "--overlays", 0, *options])])
    written = json.loads((tmp_path / "results.json").read_text())
    vectors = np.load(tmp_path / "embeddings.npy")
    answer = post(address, "predict", photos, attributes=True, embed=True)
    msgspec.convert(answer, Prediction)
    instances = [one for image in answer["images"] for one in image["instances"]]
    embeddings = np.array([one.pop("embedding") for one in instances])
    assert instances == written
    assert len(instances) > 3
    assert set(instances[0]["attributes"]) == set(ATTRIBUTES)
    assert np.array_equal(embeddings.astype(np.float32), vectors)


def test_without_the_options_the_answer_is_the_same_byte_for_byte(address: str, plain: str, models: Models) -> None:
    for fields in ({}, {"masks": "polygon"}, {"masks": "png"}, {"embed": "false", "classes": NAMES[0]}):
        with_models, without = (
            httpx.post(f"{one}/v1/predict", files=form(models.photos[:2]), data=fields, timeout=60)
            for one in (address, plain)
        )
        assert with_models.content == without.content
        assert "embedding" not in with_models.headers["server-timing"]
    about = httpx.get(f"{plain}/v1/about").json()
    assert not {"attributes", "embedder", "catalogue"} & set(about)


def test_what_the_service_has_not_is_refused_with_the_option_that_brings_it(plain: str, models: Models) -> None:
    image = {"image": as_json(models.photos[0])}
    for path, more, option in [
        (
            "predict",
            {"attributes": True},
            "attributes: this service was started without it; seamline serve --attributes",
        ),
        ("predict", {"embed": True}, "embed: this service was started without it; seamline serve --embed brings it."),
        ("embed", {}, "seamline serve --embed brings it."),
        ("search", {}, "seamline serve --catalogue brings it."),
    ]:
        status, detail = refusal(plain, path, json={**image, **more})
        assert (status, option in detail) == (422, True), detail
    assert httpx.get(f"{plain}/v1/catalogue/crop", params={"id": "a"}).status_code == 422


def test_embed_gives_the_vectors_of_garments_or_of_the_whole_photo(address: str, models: Models) -> None:
    photos = models.photos[:2]
    answer = post(address, "embed", photos)
    msgspec.convert(answer, Embedding)
    predicted = post(address, "predict", photos, embed=True, masks="none")
    assert answer["images"] == predicted["images"]
    whole = post(address, "embed", photos, whole=True)
    msgspec.convert(whole, Embedding)
    with Embedder(models.embed) as embedder:
        assert answer["embedder"] == {"name": "tiny", "identity": embedder.identity}
        for photo, image in zip(photos, whole["images"], strict=True):
            height, width = read_image(photo).shape[:2]
            assert (image["height"], image["width"], "instances" in image) == (height, width, False)
            expected = embedder.embed_photo(photo)
            assert np.array_equal(np.array(image["embedding"], np.float32), expected)


def test_search_finds_what_the_catalogue_finds(address: str, models: Models, catalogue: Catalogue) -> None:
    photos = [models.photos[0], models.photos[4]]
    embedded = post(address, "embed", photos)
    answer = post(address, "search", photos, k=4)
    msgspec.convert(answer, SearchAnswer)
    count = 0
    for image, own in zip(answer["images"], embedded["images"], strict=True):
        for one, garment in zip(image["instances"], own["instances"], strict=True):
            [expected] = catalogue.search(np.array(garment["embedding"]), 4)
            assert [match["id"] for match in one["matches"]] == [match.id for match in expected]
            assert [match["columns"] for match in one["matches"]] == [match.columns for match in expected]
            x1, y1, x2, y2 = expected[0].box
            assert one["matches"][0]["bbox"] == pytest.approx([x1, y1, x2 - x1, y2 - y1], abs=1e-3)
            assert one["bbox"] == garment["bbox"]
            count += 1
            first = one["matches"][0]
            if garment["score"] > 0.25:  # then the catalogue has this garment
                assert first["similarity"] > 0.999
    assert count > 3


def test_one_garment_a_whole_photo_a_vector_and_filters(address: str, models: Models, catalogue: Catalogue) -> None:
    photo = models.photos[1]
    every = post(address, "search", [photo])["images"][0]["instances"]
    one = post(address, "search", [photo], garment=2)["images"][0]["instances"]
    assert one == [every[1]]
    whole = post(address, "search", [photo], whole=True, k=3)["images"][0]
    assert len(whole["matches"]) == 3
    assert "instances" not in whole
    vector = post(address, "embed", [photo])["images"][0]["instances"][1]["embedding"]
    by_vector = httpx.post(f"{address}/v1/search", json={"vector": [7 * number for number in vector]})
    assert [match["id"] for match in by_vector.json()["matches"]] == [match["id"] for match in one[0]["matches"]]
    assert "search" in by_vector.headers["server-timing"]
    filters = {"classes": NAMES[0], "columns": {"brand": ["b"]}}
    as_text = post(address, "search", [photo], garment=2, filters=json.dumps(filters), k=5)
    limited = httpx.post(f"{address}/v1/search", json={"vector": vector, "filters": filters, "k": 5}).json()
    [expected] = catalogue.search(np.array(vector), 5, Filters([NAMES[0]], {"brand": ["b"]}))
    assert [match["id"] for match in limited["matches"]] == [match.id for match in expected]
    assert as_text["images"][0]["instances"][0]["matches"] == limited["matches"]
    assert {match["columns"]["brand"] for match in limited["matches"]} == {"b"}
    assert {match["class_name"] for match in limited["matches"]} == {NAMES[0]}
    assert len(limited["matches"]) > 1
    least = limited["matches"][0]["similarity"] - 1e-5
    some = httpx.post(f"{address}/v1/search", json={"vector": vector, "filters": filters, "min_score": least}).json()
    assert [match["id"] for match in some["matches"]] == [limited["matches"][0]["id"]]


def test_attributes_filter_the_search(address: str, models: Models, catalogue: Catalogue) -> None:
    """And those of the catalogue are what the model is sure of."""
    vector = post(address, "embed", models.photos[:1])["images"][0]["instances"][0]["embedding"]
    every = catalogue.table.all("SELECT row, name, value FROM attributes")
    tones = {row: value for row, name, value in every if name == "tone"}
    colours = {row for row, name, _ in every if name == "colour"}
    assert len(colours) == catalogue.facts.garments > len(tones) > 0
    for value in ("dark", ["dark", "bright"], "bright"):
        wanted = [value] if isinstance(value, str) else value
        body = {"vector": vector, "k": 100, "filters": {"attributes": {"tone": value}}}
        matches = httpx.post(f"{address}/v1/search", json=body).json()["matches"]
        found = len(matches) + sum(len(match["duplicates"]) for match in matches)
        assert found == sum(tone in wanted for tone in tones.values())
        assert all(match["attributes"]["tone"] in wanted for match in matches)


def test_a_catalogue_with_attributes_is_not_mixed_with_garments_without(models: Models, tmp_path: Path) -> None:
    folder = tmp_path / "catalogue"
    shutil.copytree(models.catalogue, folder)
    words = ["--model", models.detector, "--embedder", models.embed]
    with (
        contextlib.chdir(tmp_path),
        pytest.raises(SeamlineError, match="its garments have attributes of another model"),
    ):
        keep([*map(str, ["add", folder, models.photos[0], *words])])


def test_a_photo_that_cannot_be_used_is_an_error_of_its_own(address: str, models: Models) -> None:
    photos = form(models.photos[:1])
    photos.insert(0, ("image", ("notes.jpg", b"not a photo", "image/jpeg")))
    for path in ("embed", "search"):
        answer = httpx.post(f"{address}/v1/{path}", files=photos, data={"confidence": CONFIDENCE}).json()
        assert answer["images"][0]["error"].startswith("notes.jpg: is not an image that can be decoded")
        assert answer["images"][1]["instances"]


VECTOR = [0.0] * (DIMENSION - 1) + [1.0]
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no subject": ({"json": {}}, "The JSON has to have one of image, images, vector and text."),
    "two subjects": ({"json": {"vector": VECTOR, "text": "a"}}, "one of image, images, vector and text."),
    "short vector": ({"json": {"vector": [1.0]}}, f"; {DIMENSION} numbers are needed."),
    "no direction": ({"json": {"vector": [0.0] * DIMENSION}}, "has no direction"),
    "huge numbers": ({"json": {"vector": [1e300] * DIMENSION}}, "has no direction"),
    "words in a vector": ({"json": {"vector": ["a"]}}, "vector[0]: expected number, got text"),
    "text": ({"json": {"text": "a red dress"}}, "has no text tower, so it cannot embed texts"),
    "k": ({"json": {"vector": VECTOR, "k": 101}}, "k: has to be a whole number from 1 to 100, not '101'."),
    "min_score": ({"json": {"vector": VECTOR, "min_score": 2}}, "min_score: has to be a number from -1 to 1, not '2'."),
    "garment": ({"json": {"vector": VECTOR, "garment": 0}}, "garment: has to be a whole number from 1 on, not '0'."),
    "classes beside a vector": (
        {"json": {"vector": VECTOR, "classes": ["trousers"]}},
        "classes: goes with photos, not with a vector or a text; filters choose the answers.",
    ),
    "garment beside a text": ({"json": {"text": "a", "garment": 1}}, "garment: goes with photos, not with a vector"),
    "whole beside a vector": ({"json": {"vector": VECTOR, "whole": True}}, "whole: goes with photos, not with a"),
    "attribute": (
        {"json": {"vector": VECTOR, "filters": {"attributes": {"hem": "a"}}}},
        "filters: the catalogue has no attribute 'hem'",
    ),
    "too many values": (
        {"json": {"vector": VECTOR, "filters": {"columns": {"photo": [str(number) for number in range(10_001)]}}}},
        "filters: the filters have 10,001 values; at most 10,000",
    ),
    "class": (
        {"json": {"vector": VECTOR, "filters": {"classes": ["hat"]}}},
        "filters: the catalogue has no class 'hat'",
    ),
    "column": (
        {"json": {"vector": VECTOR, "filters": {"columns": {"price": "1"}}}},
        "filters: the catalogue has no column 'price'; it has brand",
    ),
    "filters that are not": ({"json": {"vector": VECTOR, "filters": {"class": "a"}}}, "there is no field 'class'"),
    "masks": ({"json": {"vector": VECTOR, "masks": "rle"}}, "there is no field 'masks'"),
    "option": (
        {"files": {"image": b"a"}, "data": {"embed": "true"}},
        "There is no option 'embed'; there are confidence, classes, whole, garment, k, min_score and filters.",
    ),
    "filters in a form": (
        {"files": {"image": b"a"}, "data": {"filters": "{"}},
        'they are JSON such as {"classes": ["dress"]',
    ),
    "garment of several": (
        {"files": [("image", b"a"), ("image", b"b")], "data": {"garment": "1"}},
        "garment: needs a request with one photo, and cannot be combined with whole.",
    ),
    "garment of a whole photo": (
        {"files": {"image": b"a"}, "data": {"garment": "1", "whole": "true"}},
        "garment: needs a request with one photo, and cannot be combined with whole.",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_searched_for_is_refused_with_a_sentence(address: str, name: str) -> None:
    request, words = REFUSED[name]
    status, detail = refusal(address, "search", **request)
    assert (status, words in detail) == (422, True), detail


def test_the_client_asks_for_all_of_it(address: str, models: Models, catalogue: Catalogue) -> None:
    photo = models.photos[0]
    filters = {"columns": {"brand": ["b"]}}
    with Client(address) as client:
        [image] = client.predict(photo, attributes=True, embed=True, confidence=CONFIDENCE).images
        [embedded] = client.embed(photo, confidence=CONFIDENCE).images
        [searched] = client.search(photo, confidence=CONFIDENCE, garment=2, filters=filters, k=3).images
        [whole] = client.search([photo], whole=True, k=1).images
        vector = client.embed(photo, whole=True).images[0].embedding
        assert vector is not None
        assert client.search(vector=vector, k=1).matches == whole.matches
        with pytest.raises(SeamlineError, match="search: takes one of photo, vector and text"):
            client.search(photo, text="a dress")
        with pytest.raises(ServiceError, match="has no text tower"):
            client.search(text="a dress")
        [listed] = client.predict_all([photo], attributes=True, confidence=CONFIDENCE)
    assert [one.embedding for one in image.instances] == [one.embedding for one in embedded.instances]
    assert [one.attributes for one in image.instances] == [one.attributes for one in listed.instances]
    assert set(image.instances[0].attributes) == set(ATTRIBUTES)
    [garment] = searched.instances
    assert garment.bbox == image.instances[1].bbox
    [expected] = catalogue.search(np.array(image.instances[1].embedding), 3, Filters(columns={"brand": ["b"]}))
    assert [match.id for match in garment.matches] == [match.id for match in expected]
    assert garment.matches[0].columns == {"brand": "b"}

    async def ask() -> tuple[Answer, Answer]:
        async with AsyncClient(address) as client:
            return await client.embed(photo, confidence=CONFIDENCE), await client.search(photo, whole=True, k=1)

    alike, found = asyncio.run(ask())
    assert alike.images == [embedded]
    assert found.images[0].matches == whole.matches


def test_a_garment_that_is_not_there(address: str, models: Models) -> None:
    number = 999
    for _ in range(2):
        files, data = form(models.photos[:1]), {"garment": str(number)}
        status, detail = refusal(address, "search", files=files, data=data)
        said = re.search(rf"has (\d+) garments?, and number {number} is asked for\.$", detail)
        assert status == 422 and said, detail
        number = int(said[1]) + 1  # the first one that is not there


def test_pictures_are_those_of_the_catalogue_alone(address: str, catalogue: Catalogue) -> None:
    identity = catalogue.table.all("SELECT id FROM garments")[0][0]
    answer = httpx.get(f"{address}/v1/catalogue/crop", params={"id": identity})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert answer.content == catalogue.crop(identity) != b""
    photo = identity.rpartition("#")[0]
    for other in (photo, "../../../etc/passwd", "/etc/passwd", "' OR 1=1 --", "", "a\0b", identity + " "):
        answer = httpx.get(f"{address}/v1/catalogue/crop", params={"id": other})
        assert answer.status_code == 404, other
    for path in ("../../etc/passwd", "x.jpg", "crop/../../x"):
        assert httpx.get(f"{address}/v1/catalogue/{path}").status_code == 404


def test_answers_are_the_same_under_load_as_alone(address: str, models: Models) -> None:
    photos = models.photos[:4]
    vector = post(address, "embed", photos[:1])["images"][0]["instances"][0]["embedding"]

    def requests(photo: Path) -> dict[str, tuple[str, dict[str, Any]]]:
        image = {"image": as_json(photo), "confidence": CONFIDENCE}
        return {
            f"predict {photo.name}": ("predict", {**image, "attributes": True, "embed": True}),
            f"embed {photo.name}": ("embed", {**image, "whole": True}),
            f"search {photo.name}": ("search", {**image, "k": 3}),
            "vector": ("search", {"vector": vector}),
        }

    every = {name: request for photo in photos for name, request in requests(photo).items()}
    alone = {name: httpx.post(f"{address}/v1/{path}", json=body).content for name, (path, body) in every.items()}
    different: list[str] = []

    def ask(seed: int) -> None:
        draw = random.Random(seed)
        with httpx.Client(timeout=60) as client:
            for name in draw.sample(sorted(every), 4):
                path, body = every[name]
                if client.post(f"{address}/v1/{path}", json=body).content != alone[name]:
                    different.append(name)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert different == []


def test_a_service_that_has_no_room_refuses_questions_too(models: Models) -> None:
    settings = Settings(queue=1, photos=1)
    with running(models.detector, settings, keys=["k" * 16], embed=models.embed, catalogue=models.catalogue) as address:
        assert refusal(address, "search", json={"vector": VECTOR})[0] == 401
        assert httpx.get(f"{address}/v1/catalogue/crop", params={"id": "a"}).status_code == 401
        headers = {"Authorization": f"Bearer {'k' * 16}"}
        statuses: list[int] = []

        def ask() -> None:
            with httpx.Client(timeout=60, headers=headers) as client:
                statuses.extend(
                    client.post(f"{address}/v1/search", json={"vector": VECTOR}).status_code for _ in range(10)
                )

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(statuses) <= {200, 503}
        assert statuses.count(200) > 0
        files = form(models.photos[:2])
        assert refusal(address, "embed", files=files, headers=headers)[0] == 413
        assert httpx.post(f"{address}/v1/search", json={"vector": VECTOR}, headers=headers).status_code == 200


def test_what_is_served_and_what_it_took_are_said(address: str, models: Models) -> None:
    about = httpx.get(f"{address}/v1/about").json()
    msgspec.convert(about, About)
    assert about["attributes"]["attributes"] == ATTRIBUTES
    assert about["embedder"]["dimension"] == DIMENSION
    assert about["catalogue"]["columns"] == ["brand"]
    assert about["catalogue"]["photos"] == 6
    fields = {"confidence": CONFIDENCE, "attributes": True, "embed": True}
    answer = httpx.post(f"{address}/v1/predict", files=form(models.photos[:1]), data=fields)
    parts = [part.strip().partition(";")[0] for part in answer.headers["server-timing"].split(",")]
    assert parts == ["queue", "decode", "inference", "masks", "attributes", "embedding", "encode", "total"]
    page = httpx.get(f"{address}/metrics").text
    for part in ("attributes", "embedding"):
        assert f'seamline_photo_seconds_count{{part="{part}"}}' in page
    assert 'seamline_requests_total{method="POST",route="predict",status="200"}' in page


def test_a_catalogue_of_another_embedder_is_refused_at_the_start(models: Models, tmp_path: Path) -> None:
    other = make_embedder(tmp_path, "b")
    words = ["--port", "0", "--embed", str(other), "--catalogue", str(models.catalogue)]
    with pytest.raises(SeamlineError, match=r"its vectors are of the embedder tiny .* which cannot be compared"):
        serve([str(models.detector), *words])
    with pytest.raises(SystemExit):
        serve([str(models.detector), "--catalogue", str(models.catalogue)])


def test_neither_torch_nor_ultralytics_is_imported_for_it(models: Models) -> None:
    code = f"""{WITHOUT_TORCH}
from pathlib import Path
import seamline.verbs.serve, seamline.service.app, seamline.service.running
assert not {{"usearch", "sqlite3", "seamline.inference.embedder"}} & set(sys.modules), "imported by every service"
from seamline.service.describing import opened_described
paths = [Path(name) for name in sys.argv[1:]]
with opened_described(*paths, ["shirt"], 1) as described:
    assert described.catalogue is not None
"""
    paths = [models.attributes, models.embed, models.catalogue]
    done = subprocess.run([sys.executable, "-c", code, *map(str, paths)], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
