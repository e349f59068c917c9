"""seamline catalogue, seamline search and the stage, on stand-ins for the models."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from seamline.base.errors import SeamlineError
from seamline.cli import VERBS
from seamline.params.loading.loader import load_params
from seamline.params.search import Search
from seamline.search.catalogue import open_catalogue
from seamline.search.qdrant import QdrantCatalogue, connect
from seamline.verbs import catalogue as catalogue_verb
from seamline.verbs import search as search_verb
from stages import catalogue as stage
from tests.conftest import PARAMS, merged
from tests.search.made import HalvesDetector, write_photo, write_photos
from tests.search.qdrant_server import qdrant_server
from tests.search.stand_in import StandIn


class Detector(HalvesDetector):
    def __init__(self, model: Path, confidence: float | None = None, threads: int | None = None) -> None:
        super().__init__()
        self.confidence = self.confidence if confidence is None else confidence

    def detect(self, image: Any) -> Any:
        return self.detect_beside(image)

    def __enter__(self) -> Detector:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Embedder(StandIn):
    """Another one where its file says so."""

    def __init__(self, model: Path, threads: int | None = None) -> None:
        super().__init__(24, int(Path(model).read_text()))

    def embed_texts(self, texts: list[str]) -> Any:
        raise SeamlineError("stand-in has no text tower, so it cannot embed texts.")

    def __enter__(self) -> Embedder:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with photos, and the stand-ins in the models' place."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("seamline.inference.detector.Detector", Detector)
    monkeypatch.setattr("seamline.inference.embedder.Embedder", Embedder)
    for name in ("model", "embedder"):
        Path(name).write_text("0")
    Path("other").write_text("1")
    write_photos(tmp_path / "photos", 6)
    Path("items.csv").write_text("photo,sku\n" + "".join(f"photos/00{n}.png,{n // 2}\n" for n in range(6)))
    write_photo(Path("photo.png"), 3)  # as photos/003.png
    return tmp_path


MODELS = ["--model", "model", "--embedder", "embedder"]


def add(*words: str) -> None:
    catalogue_verb.main(["add", "own", *words, *MODELS])


def answers(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    search_verb.main([*words, "--catalogue", "own", *MODELS, "--json"])
    return json.loads(capsys.readouterr().out)["questions"]


def test_a_catalogue_is_made_searched_and_changed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add("photos", "--csv", "items.csv")
    assert "6 photos added; own has 12 garments in 6" in capsys.readouterr().out
    top, trousers = answers(capsys, "photo.png", "-k", "3")
    assert (top["class_name"], trousers["class_name"]) == ("top", "trousers")
    assert [one["matches"][0]["id"] for one in (top, trousers)] == ["photos/003.png#1", "photos/003.png#2"]
    assert top["matches"][0]["columns"] == {"sku": "1"}
    [one] = answers(capsys, "photo.png", "--garment", "2", "--class", "top", "--where", "sku=0", "--where", "sku=2")
    assert {match["columns"]["sku"] for match in one["matches"]} == {"0", "2"}
    assert {match["class_name"] for match in one["matches"]} == {"top"}
    search_verb.main(["photo.png", "--where", "sku=9", "--where", "sku=1", "--catalogue", "own", *MODELS])
    assert capsys.readouterr().err == "no garment of the catalogue has sku=9\n"
    catalogue_verb.main(["remove", "own", "photos/003.png"])
    assert "2 garments removed; own has 10 garments in 5 photos" in capsys.readouterr().out
    [one] = answers(capsys, "photo.png", "--garment", "1")
    assert "photos/003.png" not in {match["photo"] for match in one["matches"]}
    add("photos")
    assert "1 photo added, 5 there already" in capsys.readouterr().out


def test_vectors_garments_of_the_catalogue_and_whole_photos_ask_too(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add("photos")
    with open_catalogue(Path("own")) as catalogue:
        np.save("query.npy", catalogue.vectors_of([4, 7]))
        ids = [row.id for row in catalogue.table.rows_at([4, 7])]
    assert [one["matches"][0]["id"] for one in answers(capsys, "--vector", "query.npy", "-k", "1")] == ids
    assert answers(capsys, "--id", ids[0], "-k", "1")[0]["matches"][0]["id"] == ids[0]
    assert len(answers(capsys, "photo.png", "--whole", "-k", "4")[0]["matches"]) == 4
    [one] = answers(capsys, "--id", ids[0], "--min-score", "0.9999")
    assert [match["id"] for match in one["matches"]] == [ids[0]]


def test_a_table_and_a_picture(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_photo(place / "photos" / "odd\x1b[31m.png", 3)
    add("photos", "--csv", "items.csv")
    capsys.readouterr()
    search_verb.main(["photo.png", "-k", "3", "--catalogue", "own", *MODELS, "--sheet", "out/similar.jpg"])
    said = capsys.readouterr()
    assert "garment 1: top (0.90)" in said.out
    assert "1  1.000" in said.out and "1 nearly the same" in said.out
    assert "\x1b" not in said.out
    image = cv2.imread("out/similar.jpg")
    assert image is not None and image.shape[0] == 2 * 152
    catalogue_verb.main(["show", "own", "--photos"])
    said = capsys.readouterr()
    assert "14 garments in 7 photos" in said.out and "odd\\x1b[31m.png#1" in said.out and "\x1b" not in said.out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["photo.png", "--garment", "3"], "photo.png: has 2 garments, so there is no --garment 3"),
        (["--text", "red"], "has no text tower"),
        (["--id", "photos/009.png#1"], "own: has no garment 'photos/009.png#1'"),
        (["--vector", "model"], "model: is not a .npy file of numbers, such as predict's embeddings.npy."),
        (["--vector", "short.npy"], "24 numbers are needed"),
        (["--vector", "nan.npy"], "vector 1 has no direction"),
        (["photo.png", "--where", "colour=red"], "the catalogue has no column 'colour'; it has sku, photo, split, id"),
        (["photo.png", "--where", "colour"], "--where 'colour': has to be NAME=VALUE"),
        (["photo.png", "--class", "hat"], "the catalogue has no class 'hat'; it has top, trousers"),
        (["photo.png", "--embedder", "other"], "which cannot be compared"),
        (["photo.png", "--catalogue", "nothing"], "nothing: has no catalogue.json"),
        (["nothing.png"], "nothing.png"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(place: Path, words: list[str], sentence: str) -> None:
    add("photos", "--csv", "items.csv")
    np.save("short.npy", np.ones(3))
    np.save("nan.npy", np.full(24, np.nan))
    with pytest.raises(SeamlineError) as caught:
        search_verb.main(["--catalogue", "own", *MODELS, *words])
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["photo.png", "--text", "red"],
        ["--whole", "--id", "a"],
        ["photo.png", "--whole", "--garment", "1"],
        ["a", "-k", "0"],
    ],
)
def test_what_contradicts_itself_is_refused(words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        search_verb.main(words)
    assert caught.value.code == 2


def test_a_broken_photo_is_listed_and_the_exit_status_says_so(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "photos" / "torn.jpg").write_bytes(b"\xff\xd8 torn")
    with pytest.raises(SystemExit) as caught:
        add("photos")
    said = capsys.readouterr()
    assert caught.value.code == 1
    assert "6 photos added" in said.out
    assert "1 photo cannot be used:" in said.err and "torn.jpg: " in said.err


def test_a_catalogue_is_sent_to_a_server_and_searched_there(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add("photos", "--csv", "items.csv")
    with qdrant_server() as (url, _):
        catalogue_verb.main(["push", "own", "--url", url, "--collection", "shop"])
        assert f"{url}: shop has 12 garments" in capsys.readouterr().out
        there = answers(capsys, "photo.png", "--url", url, "--collection", "shop", "--where", "sku=1")
        here = answers(capsys, "photo.png", "--where", "sku=1")
        with QdrantCatalogue(connect(url), "shop", url) as remote:
            assert remote.crop("photos/003.png#1") == b""
    assert [[match["id"] for match in one["matches"]] for one in there] == [
        [match["id"] for match in one["matches"]] for one in here
    ]


def with_params(changes: dict[str, Any]) -> None:
    Path("params.yaml").write_text(yaml.safe_dump(merged(yaml.safe_load(PARAMS.read_text()), changes)))


def run_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, "argv", ["catalogue", "model", "embedder", "split", "data/catalogue", "--report", "reports"]
    )
    stage.main()


def test_the_stage_makes_a_catalogue_of_a_table_and_measures_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slices = {"sku": None}
    own = {"source": "items.csv", "item": "sku", "questions": None, "answers": None}
    with_params({"catalogue": own, "evaluate": {"slices": slices}})
    (place / "items.csv").write_text((place / "items.csv").read_text() + "photos/009.png,7\n")
    run_stage(monkeypatch)
    report = json.loads(Path("reports/catalogue.json").read_text())
    assert (report["garments"], report["photos"], report["recall"], report["any"]["questions"]) == (12, 6, "any", 12)
    assert report["unusable_photos"] == [["photos/009.png", "there is no such file."]]
    small = {"recall@1": report["any"]["recall@1"]["value"]}
    assert json.loads(Path("reports/recall.json").read_text()) == small
    assert report["any"]["by_photo"] is not None
    before = {path: path.read_bytes() for path in Path("data/catalogue").iterdir()}
    run_stage(monkeypatch)
    assert {path: path.read_bytes() for path in Path("data/catalogue").iterdir()} == before
    assert not Path(".seamline/catalogue").exists()


def test_a_stage_that_is_switched_off_makes_an_empty_folder(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with_params({"catalogue": {"enabled": False}})
    run_stage(monkeypatch)
    assert "no catalogue: it is switched off (catalogue.enabled)." in capsys.readouterr().out
    assert list(Path("data/catalogue").iterdir()) == list(Path("reports/catalogue").iterdir()) == []
    assert json.loads(Path("reports/catalogue.json").read_text())["recall"] is None
    assert json.loads(Path("reports/recall.json").read_text()) == {}
    with pytest.raises(SeamlineError, match=r"data/catalogue: has no catalogue\.json"):
        open_catalogue(Path("data/catalogue"))


@pytest.mark.parametrize("key", ["questions", "answers"])
def test_a_column_that_is_not_there_is_said_before_photos_are_looked_at(
    place: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    own = {"source": "items.csv", "item": "sku", "questions": None, "answers": None, key: {"shop": "a"}}
    with_params({"catalogue": own, "evaluate": {"slices": {}}})
    monkeypatch.setattr("seamline.search.building.photo_to_entry", None)
    with pytest.raises(SeamlineError, match=rf"catalogue\.{key}: the catalogue has no column 'shop'; it has sku"):
        run_stage(monkeypatch)
    with pytest.raises(SeamlineError, match=rf"catalogue\.{key}: the catalogue has no column 'shop'; it has sku"):
        search_verb.main(["--compare", "embedder", "--model", "model"])


def test_a_table_in_the_folder_says_which_photos(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("photos/items.csv").write_text("photo,sku\n000.png,a\n001.png,a\n")
    own = {"source": "photos", "csv": "items.csv", "item": "sku", "questions": None, "answers": None}
    with_params({"catalogue": own, "evaluate": {"slices": {}}})
    run_stage(monkeypatch)
    report = json.loads(Path("reports/catalogue.json").read_text())
    assert (report["photos"], report["source"], report["any"]["questions"]) == (2, "photos/items.csv", 4)


def test_embedders_are_compared_on_ones_own_pairs(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = {"source": "items.csv", "item": "sku", "questions": None, "answers": None}
    with_params({"catalogue": own, "evaluate": {"slices": {}}})
    search_verb.main(["--compare", "embedder", "other", "--model", "model", "--json"])
    one, other = json.loads(capsys.readouterr().out)
    assert (one["embedder"], other["embedder"]) == ("embedder", "other")
    assert one["identity"] != other["identity"]
    assert one["any"]["questions"] == other["any"]["questions"] == 12
    search_verb.main(["--compare", "embedder", "--model", "model"])
    said = capsys.readouterr().out
    assert "12 questions in 3 groups" in said and "recall@1" in said
    with_params({"catalogue": {**own, "item": None}, "evaluate": {"slices": {}}})
    with pytest.raises(SeamlineError, match="embedders cannot be compared: no column says"):
        search_verb.main(["--compare", "embedder", "--model", "model"])


def test_the_defaults_of_tools_are_those_of_the_parameters() -> None:
    assert load_params(PARAMS)[Search] == Search()
    assert {"catalogue", "search"} <= set(VERBS)
