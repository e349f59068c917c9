"""Recall against a literal count: every question, every answer, one loop in another."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from bench.embedder_ways import Known, numbered, shares_of
from seamline.params.catalogue import Catalogue as Settings
from seamline.params.loading.loader import load_params
from seamline.params.subset import Subset
from seamline.search.catalogue import open_catalogue
from seamline.search.measuring import annotations_of, measure, sentence, small
from seamline.search.recall import KS, expected_precision, no_hit, ranks_of
from seamline.search.truth import Photo, annotated_to_things, annotations_to_rows, chosen_photos, same_value
from tests.conftest import PARAMS, write_dataset
from tests.search.made import directions, entry, write

SETTINGS = Settings(
    enabled=True, source="photos", csv=None, file_column=None, confidence=None, crop_px=None, item="sku", same=None,
    questions=None, answers=None, pictures=3, seed=0,
)  # fmt: skip


def made(folder: Path, photos: int = 60, seed: int = 0, sources: bool = False) -> list[dict[str, Any]]:
    """Photos of 20 items with one or two garments each; garments of one item are alike, but not always the nearest."""
    drawn = np.random.default_rng(seed)
    centres = directions(40, seed=seed)
    entries, known = [], []
    for number in range(photos):
        item = int(drawn.integers(0, 20))
        count = int(drawn.integers(1, 3))
        vectors = np.stack([centres[2 * item + place] + 0.35 * drawn.normal(size=8) for place in range(count)])
        vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
        classes = ["top", "trousers"][:count]
        source = ["shop", "user"][int(drawn.integers(0, 2))]
        whole = (vectors.astype(np.float32).sum(axis=0) + 0.1).astype(np.float16)
        one = entry(f"{number:02d}.jpg", vectors, classes, [f"sku{item}", source], vector=whole.tobytes())
        entries.append(one)
        known += [
            {"photo": number, "item": (item, name), "vector": row.astype(np.float32), "source": source, "class": name}
            for name, row in zip(classes, vectors, strict=True)
        ]
    write(folder, entries, ["sku", "source"])
    return known


def literally(known: list[dict[str, Any]], asking: Any, answering: Any) -> tuple[int, dict[int, float], float]:
    """Questions, recall at each k, and mAP."""
    hits: dict[int, list[bool]] = {k: [] for k in KS}
    precisions = []
    for question in known:
        gallery = [one for one in known if one["photo"] != question["photo"] and answering(one)]
        right = [one for one in gallery if one["item"] == question["item"]]
        if not asking(question) or not right:
            continue
        order = sorted(gallery, key=lambda one: -float(one["vector"] @ question["vector"]))
        correct = [one["item"] == question["item"] for one in order]
        for k in KS:
            hits[k].append(any(correct[:k]))
        precisions.append(
            sum(sum(correct[: place + 1]) / (place + 1) for place, is_right in enumerate(correct) if is_right)
            / len(right)
        )
    return len(precisions), {k: float(np.mean(found)) for k, found in hits.items()}, float(np.mean(precisions))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_recall_and_map_are_those_of_a_literal_count(tmp_path: Path, seed: int) -> None:
    known = made(tmp_path / "catalogue", seed=seed)
    with open_catalogue(tmp_path / "catalogue") as catalogue:
        report = measure(catalogue, SETTINGS, None, {}).report
    questions, recall, precision = literally(known, lambda one: True, lambda one: True)
    assert report["recall"] == "any"
    assert report["any"]["questions"] == questions
    for k in KS:
        assert report["any"][f"recall@{k}"]["value"] == pytest.approx(recall[k], abs=1e-6)
    assert report["any"]["mAP"]["value"] == pytest.approx(precision, abs=1e-6)


def test_of_more_questions_some_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path / "catalogue", seed=0)
    monkeypatch.setattr("seamline.search.recall.MOST_QUESTIONS", 7)
    with open_catalogue(tmp_path / "catalogue") as catalogue:
        found = [measure(catalogue, SETTINGS, None, {}).report["any"] for _ in range(2)]
    assert found[0]["questions"] == 7 and found[0] == found[1]


def test_where_every_garment_is_found_the_bench_of_embedders_has_the_same_recall(tmp_path: Path) -> None:
    """It asks of annotated garments; its other question, the same kind, has no truth in a catalogue."""
    made(tmp_path / "catalogue", seed=5)
    with open_catalogue(tmp_path / "catalogue") as catalogue:
        report = measure(catalogue, SETTINGS, None, {}).report["any"]
        rows = catalogue.table.rows_at(range(catalogue.facts.garments))
        items = [(dict(zip(catalogue.columns, row.values, strict=True))["sku"], row.class_name) for row in rows]
        photo, kind = numbered([row.photo for row in rows]), numbered([row.class_name for row in rows])
        shares = shares_of(catalogue.stored.astype(np.float32), Known(photo, photo, kind, numbered(items)))
    assert np.nanmean(shares.item_at_1) == pytest.approx(report["recall@1"]["value"], abs=1e-6)
    assert np.nanmean(shares.item_at_10) == pytest.approx(report["recall@10"]["value"], abs=1e-6)
    assert np.sum(~np.isnan(shares.item_at_1)) == report["questions"]


def test_users_photos_are_asked_with_and_a_shops_are_the_answers(tmp_path: Path) -> None:
    known = made(tmp_path / "catalogue")
    settings = Settings(**{
        **{name: getattr(SETTINGS, name) for name in SETTINGS.__struct_fields__},
        "questions": {"source": "user"},
        "answers": {"source": "shop"},
    })  # fmt: skip
    with open_catalogue(tmp_path / "catalogue") as catalogue:
        report = measure(catalogue, settings, None, {"source": None}).report
    questions, recall, precision = literally(
        known, lambda one: one["source"] == "user", lambda one: one["source"] == "shop"
    )
    found = report["chosen"]
    assert (report["recall"], found["questions"]) == ("chosen", questions)
    assert found["recall@1"]["value"] == pytest.approx(recall[1], abs=1e-6)
    assert found["mAP"]["value"] == pytest.approx(precision, abs=1e-6)
    assert found["recall@5"]["value"] == pytest.approx(recall[5], abs=1e-6)
    assert small(report) == {"recall@1": found["recall@1"]["value"]}
    assert sum(part["questions"] for part in report["any"]["slices"]["source"].values()) == report["any"]["questions"]


def test_a_garment_that_was_not_found_fails_as_a_question_and_is_never_right_as_an_answer(tmp_path: Path) -> None:
    """Three photos of one item; what was annotated in the second was not found."""
    near = directions(1)[0]
    entries = [
        entry("a.jpg", near[None], values=["x"]),
        entry("b.jpg", -near[None], values=["x"]),
        entry("c.jpg", near[None], values=["x"]),
        entry("d.jpg", directions(1, seed=3), values=["y"]),
    ]
    entries[1].garments[0].box = (50.0, 50.0, 60.0, 60.0)
    write(tmp_path / "catalogue", entries, ["sku"])
    annotations = [(name, "top", {"bbox": [0, 0, 9, 9], "style": 1}) for name in ("a.jpg", "b.jpg", "c.jpg")]
    annotations.append(("d.jpg", "top", {"bbox": [0, 0, 9, 9], "style": 0}))
    with open_catalogue(tmp_path / "catalogue") as catalogue:
        report = measure(catalogue, Settings(**{**as_dict(SETTINGS), "same": "style"}), annotations, {}).report
    found = report["any"]
    assert (found["questions"], found["missed"], found["answers"], found["answers_missed"]) == (3, 1, 6, 2)
    assert found["recall@1"]["value"] == pytest.approx(2 / 3, abs=1e-6)
    assert found["mAP"]["value"] == pytest.approx((0.5 + 0 + 0.5) / 3, abs=1e-6)
    assert "1 garment asked with not found" in sentence(report)


def as_dict(settings: Settings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in settings.__struct_fields__}


def test_photos_with_the_same_bytes_are_no_answers(tmp_path: Path) -> None:
    near = directions(2)
    entries = [entry(name, near[:1], values=["x"]) for name in ("a.jpg", "copy.jpg")]
    entries[1].sha256 = entries[0].sha256
    entries.append(entry("b.jpg", near[1:], values=["x"]))
    entries += [entry(f"{number}.jpg", directions(1, seed=9 + number), values=["y"]) for number in range(3)]
    write(tmp_path / "catalogue", entries, ["sku"])
    with open_catalogue(tmp_path / "catalogue") as catalogue:
        found = measure(catalogue, SETTINGS, None, {}).report["any"]
    assert found["answers"] == 1 + 1 + 2 + 3 * 2


def test_photos_with_the_same_bytes_are_not_before_an_answer_either(tmp_path: Path) -> None:
    one = directions(1)
    near = one + 0.1 * directions(1, seed=5)
    entries = [entry(name, one, values=["x"]) for name in ("a.jpg", "copy.jpg")]
    entries.append(entry("b.jpg", near / np.linalg.norm(near), values=["x"]))
    entries.append(entry("other copy.jpg", one, values=[None]))
    for copy in (entries[1], entries[3]):
        copy.sha256 = entries[0].sha256
    write(tmp_path / "catalogue", entries, ["sku"])
    with open_catalogue(tmp_path / "catalogue") as catalogue:
        found = measure(catalogue, SETTINGS, None, {}).report["any"]
    assert (found["questions"], found["recall@1"]["value"], found["mAP"]["value"]) == (3, 1.0, 1.0)
    assert found["recall@1"]["by_chance"] == pytest.approx((1 + 1 + 2 / 3) / 3, abs=1e-6)


def test_chance_is_of_all_garments_or_of_those_of_the_questions_class(tmp_path: Path) -> None:
    entries = [
        entry(f"{number}.jpg", directions(2, seed=number), ["top", "trousers"], ["x" if number < 2 else None])
        for number in range(4)
    ]
    write(tmp_path / "catalogue", entries, ["sku"])
    with open_catalogue(tmp_path / "catalogue") as catalogue:
        found = measure(catalogue, SETTINGS, None, {}).report["any"]["recall@1"]
    assert found["by_chance"] == pytest.approx(1 / 6, abs=1e-6)
    assert found["by_chance_in_class"] == pytest.approx(1 / 3, abs=1e-6)


def test_equal_ones_stand_by_their_numbers_among_those_that_may_be_answers() -> None:
    scores = np.array([0.5, 1.0, 1.0, 0.5, 1.0], np.float32)
    assert ranks_of([4, 1, 0, 3], scores, np.ones(5, bool)) == [3, 1, 4, 5]
    assert ranks_of([4, 3], scores, np.array([True, False, True, True, True])) == [2, 4]


def test_chance_is_what_random_orders_reach() -> None:
    drawn = np.random.default_rng(0)
    for gallery, right in ((12, 3), (5, 1), (30, 7)):
        orders = drawn.random((20_000, gallery)).argsort(axis=1) < right
        for k in KS:
            assert 1 - no_hit(gallery, right, k) == pytest.approx(orders[:, :k].any(axis=1).mean(), abs=0.02)
        shares = orders.cumsum(axis=1) / np.arange(1, gallery + 1)
        precision = ((shares * orders).sum(axis=1) / right).mean()
        assert expected_precision(gallery, right) == pytest.approx(precision, abs=0.01)
    assert no_hit(4, 1, 20) == 0.0
    assert math.isclose(1 - no_hit(10, 1, 5), 0.5)


def test_a_random_embedder_is_as_good_as_chance(tmp_path: Path) -> None:
    vectors = directions(400, 8)
    entries = [entry(f"{number}.jpg", one[None], values=[f"sku{number % 100}"]) for number, one in enumerate(vectors)]
    write(tmp_path / "catalogue", entries, ["sku"])
    with open_catalogue(tmp_path / "catalogue") as catalogue:
        found = measure(catalogue, SETTINGS, None, {}).report["any"]
    for name in ("recall@1", "recall@10", "recall@20"):
        assert found[name]["value"] == pytest.approx(found[name]["by_chance"], abs=0.06)


def test_photos_are_ranked_by_their_best_garment_and_as_a_whole(tmp_path: Path) -> None:
    known = made(tmp_path / "catalogue", seed=4)
    with open_catalogue(tmp_path / "catalogue") as catalogue:
        photos = catalogue.table.photos()
        found = measure(catalogue, SETTINGS, None, {}).report["any"]["by_photo"]
    wholes = np.stack([np.frombuffer(vector or b"", np.float16).astype(np.float32) for _, _, _, vector, _ in photos])
    garments, whole = [], []
    for question in known:
        right = {one["photo"] for one in known if one["item"] == question["item"]} - {question["photo"]}
        if not right:
            continue
        others = [number for number in range(len(photos)) if number != question["photo"]]
        best = {
            number: max(float(one["vector"] @ question["vector"]) for one in known if one["photo"] == number)
            for number in others
        }
        garments.append(max(others, key=lambda number: best[number]) in right)
        whole.append(max(others, key=lambda number: float(wholes[number] @ wholes[question["photo"]])) in right)
    assert found["garments"]["recall@1"]["value"] == pytest.approx(np.mean(garments), abs=1e-6)
    assert found["whole_photos"]["recall@1"]["value"] == pytest.approx(np.mean(whole), abs=1e-6)
    difference = found["difference"]["recall@1"]
    assert difference["value"] == pytest.approx(np.mean(garments) - np.mean(whole), abs=1e-6)
    assert difference["interval"][0] < difference["value"] < difference["interval"][1]


def test_without_truth_it_says_why(tmp_path: Path) -> None:
    write(tmp_path / "catalogue", [entry("a.jpg", directions(1), values=["x"])], ["sku"])
    with open_catalogue(tmp_path / "catalogue") as catalogue:
        alone = measure(catalogue, SETTINGS, None, {})
        other = measure(catalogue, Settings(**{**as_dict(SETTINGS), "item": "pair_id"}), None, {})
    assert alone.report == {"recall": None, "reason": "no garment has its item (sku) in another photo."}
    assert (other.report["recall"], small(other.report), alone.pictures) == (None, {}, {})


def test_pictures_have_right_and_wrong_answers(tmp_path: Path) -> None:
    made(tmp_path / "catalogue")
    with open_catalogue(tmp_path / "catalogue") as catalogue:
        pictures = measure(catalogue, SETTINGS, None, {}).pictures
        again = measure(catalogue, SETTINGS, None, {}).pictures
    assert sorted(pictures) == ["right.jpg", "wrong.jpg"]
    assert pictures == again
    assert all(data[:2] == b"\xff\xd8" for data in pictures.values())


def test_an_item_has_one_class() -> None:
    """As DeepFashion2's styles are numbered anew for each class of a pair."""
    photo, box = Photo(0, "a.jpg", None, {"sku": "x"}, "", b""), {"bbox": [0, 0, 9, 9], "style": 1}
    annotations = [("a.jpg", name, box) for name in ("top", "trousers", "top")]
    one, other, third = annotated_to_things([photo], [], "sku", "style", annotations)
    assert one.item == third.item != other.item


@pytest.mark.parametrize(("crowd", "count"), [(True, 3), ("instances", 4)])
def test_crowds_are_garments_where_they_were_trained(tmp_path: Path, crowd: Any, count: int) -> None:
    folder = write_dataset(tmp_path / "raw", 2)
    coco = json.loads((folder / "instances.json").read_text())
    coco["annotations"][1]["iscrowd"] = 1
    (folder / "annotations.json").write_text(json.dumps(coco))
    (folder / "photos").rename(folder / "images")
    subset = msgspec.structs.replace(load_params(PARAMS)[Subset], crowd=crowd)
    found = annotations_of(folder, subset)
    assert found is not None
    assert [name for _, name, _ in found][:1] == ["short sleeve top"]
    assert len(found) == count
    assert annotations_of(folder / "images", subset) is None
    some = annotations_of(folder, msgspec.structs.replace(subset, classes=["trousers"])) or []
    assert {name for _, name, _ in some} == {"trousers"}  # what is not looked for is not missed


def test_photos_are_chosen_by_all_their_values() -> None:
    values = [("user", "a"), ("user", "b"), ("shop", "a"), (None, "a")]
    photos = [Photo(n, str(n), None, {"source": one, "city": other}, "", b"") for n, (one, other) in enumerate(values)]
    assert chosen_photos(photos, {"source": "user", "city": "a"}) == {0}
    assert chosen_photos(photos, {"city": "a"}) == {0, 2, 3}
    assert chosen_photos(photos, None) == {0, 1, 2, 3}


def test_annotations_are_matched_to_what_was_found_one_to_one() -> None:
    from seamline.search.table import Row

    def row(number: int, name: str, box: tuple[float, float, float, float]) -> Row:
        return Row(number, str(number), "a", number, name, box, 0.9, None, None, 99, 99, None, (), {})

    rows = [row(4, "top", (0, 0, 10, 10)), row(5, "top", (0, 0, 10, 9)), row(6, "trousers", (0, 0, 10, 10))]
    annotated = [
        ("top", {"bbox": [0, 0, 10, 9]}),
        ("top", {"bbox": [0, 0, 10, 10]}),
        ("trousers", {"bbox": [50, 50, 5, 5]}),
    ]
    assert annotations_to_rows(annotated, rows) == [5, 4, -1]
    assert annotations_to_rows(annotated[:2], rows[:1]) == [-1, 4]  # what was found is one garment, the better one
    assert annotations_to_rows([("top", {"bbox": [0, 0, 10, 5]})], rows[:1]) == [4]  # an IoU of 0.5
    assert annotations_to_rows([("top", {"bbox": [0, 0, 10, 4.9]})], rows[:1]) == [-1]
    assert annotations_to_rows(annotated[:2], rows[2:]) == [-1, -1]  # of another class


@pytest.mark.parametrize(
    ("record", "same", "expected"),
    [
        ({"style": 2}, "style", "2"),
        ({"style": 0}, "style", None),
        ({}, "style", None),
        ({}, None, ""),
        ({"style": [1]}, "style", None),
    ],
)
def test_what_says_that_annotations_are_one_item(record: Any, same: Any, expected: Any) -> None:
    assert same_value(record, same) == expected
