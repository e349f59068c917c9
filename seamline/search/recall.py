"""How often a search finds what it should: each garment that has its item in other photos is asked with once.

recall@k is the share of questions with a right answer among the first k (Match R-CNN's top-k accuracy). A garment that
the detector did not find has no answer: it is a question that failed, and as an answer it is never right. mAP is the
mean over the questions of the average precision over all right answers there are. Garments of the question's own photo
count neither way, nor do those of photos with the same bytes. Intervals are by groups: photos of one value of the
item's column depend on each other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from seamline.base.coco import Record
from seamline.evaluation.bootstrap import draw_weights, interval, interval_of_difference, weights_without
from seamline.evaluation.slices import is_value, label_of, natural, value_at
from seamline.search.truth import NOT_FOUND, Photo, Thing
from seamline.search.vectors import Stored

KS = (1, 5, 10, 20)
MEASURES = (*(f"recall@{k}" for k in KS), "mAP")
MOST_QUESTIONS = 5000  # drawn from more
QUESTIONS_AT_ONCE = 64
SAMPLES = 400
SHOWN = 5  # answers in pictures
Floats = npt.NDArray[np.float64]


class Asked(NamedTuple):
    """A question, and where its right answers stand."""

    thing: Thing
    ranks: list[int]  # of the right garments that were found, from 1
    right: int  # garments, found or not
    right_missed: int  # of these, those that were not found
    gallery: int  # garments that could be answers
    of_class: tuple[int, int]  # of these, those of the question's class, and the right ones among them
    photo_rank: int | None  # of the best right photo, where photos are ranked by their best garment
    whole_rank: int | None  # and where they are ranked by their vectors
    first: list[int]  # rows of the first answers
    first_right: list[bool]


def ask(
    things: Sequence[Thing],
    photos: Sequence[Photo],
    row_photos: npt.NDArray[np.int64],
    row_classes: Sequence[str],
    stored: Stored,
    asking: set[int],
    answering: set[int],
    seed: int,
) -> list[Asked]:
    """Ask with every garment of the photos in `asking` that has its item in another photo of `answering`.

    Args:
        row_photos: (rows,) the photo of each garment of the catalogue.
        row_classes: (rows,)
    """
    same_bytes: dict[str, set[int]] = defaultdict(set)
    for photo in photos:
        same_bytes[photo.sha256].add(photo.number)
    of_item: dict[tuple[str, ...], list[Thing]] = defaultdict(list)
    for thing in things:
        of_item[thing.item].append(thing)
    own = {photo.number: same_bytes[photo.sha256] | {photo.number} for photo in photos}
    questions = []
    for thing in things:
        right = [one for one in of_item[thing.item] if one.photo in answering and one.photo not in own[thing.photo]]
        if thing.photo in asking and right:
            questions.append((thing, right))
    if len(questions) > MOST_QUESTIONS:
        drawn = np.random.default_rng(seed).choice(len(questions), MOST_QUESTIONS, replace=False)
        questions = [questions[index] for index in np.sort(drawn)]
    gallery = Gallery(photos, row_photos, row_classes, stored, answering, own)
    return [
        gallery.asked(question[0], question[1], similarity, whole)
        for start in range(0, len(questions), QUESTIONS_AT_ONCE)
        for question, similarity, whole in gallery.similarities(questions[start : start + QUESTIONS_AT_ONCE])
    ]


class Gallery:
    """All garments and photos of a catalogue, some of which may be answers."""

    def __init__(
        self,
        photos: Sequence[Photo],
        row_photos: npt.NDArray[np.int64],
        row_classes: Sequence[str],
        stored: Stored,
        answering: set[int],
        own: Mapping[int, set[int]],
    ) -> None:
        self.row_photos, self.stored, self.own = row_photos, stored, own
        self.row_classes = np.array(row_classes, dtype=object)
        self.answers = np.isin(np.arange(len(photos)), sorted(answering))
        width = stored.shape[1]
        self.has_vectors = bool(photos) and all(len(photo.vector) == 2 * width for photo in photos)
        joined = b"".join(photo.vector for photo in photos) if self.has_vectors else b""
        self.whole = np.frombuffer(joined, np.float16).reshape(-1, width).astype(np.float32)

    def similarities(self, questions: Sequence[tuple[Thing, list[Thing]]]) -> list[tuple[Any, Any, Any]]:
        """Each question with the similarity of every row, and of every photo; None where there is none."""
        asked = [max(thing.row, 0) for thing, _ in questions]
        rows = product(np.asarray(self.stored[asked], np.float32), self.stored) if len(self.stored) else None
        wholes = self.whole[[thing.photo for thing, _ in questions]] @ self.whole.T if self.has_vectors else None
        return [
            (
                question,
                None if question[0].row == NOT_FOUND or rows is None else rows[index],
                None if wholes is None else wholes[index],
            )
            for index, question in enumerate(questions)
        ]

    def asked(self, thing: Thing, right: Sequence[Thing], similarity: Any, whole: Any) -> Asked:
        photo_may = self.answers.copy()
        photo_may[list(self.own[thing.photo])] = False
        may = photo_may[self.row_photos]
        right_rows = sorted(one.row for one in right if one.row != NOT_FOUND)
        right_photos = sorted({one.photo for one in right})
        of_class = may & (self.row_classes == thing.class_name)
        right_of_class = int(of_class[right_rows].sum()) if right_rows else 0
        whole_rank = None if whole is None else min(ranks_of(right_photos, whole, photo_may))
        counts = (len(right), len(right) - len(right_rows), int(may.sum()), (int(of_class.sum()), right_of_class))
        if similarity is None:
            return Asked(thing, [], *counts, None, whole_rank, [], [])
        best = np.full(len(self.answers), -np.inf, np.float32)
        np.maximum.at(best, self.row_photos, np.where(may, similarity, -np.inf))
        photo_ranks = [
            rank for rank, photo in zip(ranks_of(right_photos, best, photo_may), right_photos, strict=True)
            if np.isfinite(best[photo])
        ]  # fmt: skip
        allowed = np.flatnonzero(may)
        first = allowed[np.lexsort((allowed, -similarity[allowed]))[:SHOWN]].tolist()
        return Asked(
            thing,
            sorted(ranks_of(right_rows, similarity, may)),
            *counts,
            min(photo_ranks, default=None),
            whole_rank,
            first,
            [row in set(right_rows) for row in first],
        )


def product(queries: npt.NDArray[np.float32], stored: Stored) -> npt.NDArray[np.float32]:
    blocks = [queries @ stored[start : start + 65536].astype(np.float32).T for start in range(0, len(stored), 65536)]
    return np.concatenate(blocks, axis=1)


def ranks_of(wanted: Sequence[int], scores: npt.NDArray[np.float32], may: npt.NDArray[np.bool_]) -> list[int]:
    """Where each stands among those that may be answers, from 1: higher scores first, equal ones by their numbers."""
    ranks = []
    for one in wanted:
        better = (scores > scores[one]) | ((scores == scores[one]) & (np.arange(len(scores)) < one))
        ranks.append(int(np.sum(better & may)) + 1)
    return ranks


def measures(asked: Sequence[Asked]) -> Floats:
    """(questions, measures) under MEASURES, of the garments."""
    return np.array(
        [
            [*(float(bool(one.ranks) and one.ranks[0] <= k) for k in KS), average_precision(one.ranks, one.right)]
            for one in asked
        ]
    ).reshape(-1, len(MEASURES))


def average_precision(ranks: Sequence[int], right: int) -> float:
    """Over all right answers, of which those that are not among `ranks` are never reached."""
    return sum(place / rank for place, rank in enumerate(ranks, 1)) / right


def by_chance(asked: Sequence[Asked], of_class: bool) -> Floats:
    """What answers in a random order would reach, (questions, measures); of_class: of the question's class alone."""
    rows = []
    for one in asked:
        gallery, right = one.of_class if of_class else (one.gallery, len(one.ranks))
        if one.thing.row == NOT_FOUND or not right:
            rows.append([0.0] * len(MEASURES))
            continue
        hits = [1.0 - no_hit(gallery, right, k) for k in KS]
        rows.append([*hits, expected_precision(gallery, right) * right / one.right])
    return np.array(rows).reshape(-1, len(MEASURES))


def no_hit(gallery: int, right: int, k: int) -> float:
    """The probability that none of `right` is among k drawn from a gallery (hypergeometric)."""
    drawn = np.arange(min(k, gallery))
    left = np.maximum(gallery - right - drawn, 0)
    return float(np.prod(left / (gallery - drawn)))


def expected_precision(gallery: int, right: int) -> float:
    """The mean average precision of all orders of a gallery (Bestgen 2015)."""
    harmonic = float(np.sum(1 / np.arange(1, gallery + 1)))
    if gallery == 1:
        return 1.0
    return (harmonic + (right - 1) / (gallery - 1) * (gallery - harmonic)) / gallery


def figures(values: Floats, groups: npt.NDArray[np.int64], seed: int, names: Sequence[str] = MEASURES) -> Record:
    """Each measure's mean over the questions, and its interval."""
    weights = weights_without(groups, seed).astype(np.float64)
    totals = weights.sum(axis=1)
    found: Record = {}
    for place, name in enumerate(names):
        value = float(values[:, place].mean())
        with np.errstate(invalid="ignore", divide="ignore"):
            left_out = (weights @ values[:, place]) / totals
        found[name] = {
            "value": round(value, 6),
            "interval": interval(left_out, len(np.unique(groups)), value),
        }
    return found


def by_photo(asked: Sequence[Asked], groups: npt.NDArray[np.int64], seed: int) -> Record | None:
    """Photos found by their garments, beside photos found by their vectors as a whole; None without those."""
    if any(one.whole_rank is None for one in asked):
        return None
    names = [f"recall@{k}" for k in KS]

    def hits(rank_of: Callable[[Asked], int | None]) -> Floats:
        ranks = [rank_of(one) for one in asked]
        return np.array([[float(rank is not None and rank <= k) for k in KS] for rank in ranks])

    garments, wholes = hits(lambda one: one.photo_rank), hits(lambda one: one.whole_rank)
    weights = draw_weights(groups, SAMPLES, seed).astype(np.float64)
    differences: Record = {}
    for place, name in enumerate(names):
        gained = garments[:, place] - wholes[:, place]
        draws = (weights @ gained) / weights.sum(axis=1)
        value = float(gained.mean())
        span = interval_of_difference(draws, len(np.unique(groups)), value)
        differences[name] = {"value": round(value, 6), "interval": span}
    return {
        "garments": figures(garments, groups, seed, names),
        "whole_photos": figures(wholes, groups, seed, names),
        "difference": differences,
    }


def recall_report(
    asked: Sequence[Asked],
    photos: Sequence[Photo],
    item: str,
    slices: Mapping[str, Mapping[str, str] | None],
    seed: int,
) -> Record:
    """Everything that is said of one set of questions, of which there has to be one."""
    values = [str(photos[one.thing.photo].values[item]) for one in asked]
    _, groups = np.unique(values, return_inverse=True)
    measured = measures(asked)
    chance, chance_of_class = by_chance(asked, False), by_chance(asked, True)
    found = figures(measured, groups, seed)
    for place, name in enumerate(MEASURES):
        found[name]["by_chance"] = round(float(chance[:, place].mean()), 6)
        found[name]["by_chance_in_class"] = round(float(chance_of_class[:, place].mean()), 6)

    def part(chosen: Sequence[int]) -> Record:
        own = np.array(chosen)
        return {
            "questions": len(own),
            "groups": len(np.unique(groups[own])),
            "missed": sum(asked[index].thing.row == NOT_FOUND for index in chosen),
            **figures(measured[own], groups[own], seed),
        }

    return {
        "questions": len(asked),
        "groups": len(np.unique(groups)),
        "missed": sum(one.thing.row == NOT_FOUND for one in asked),
        "answers": sum(one.right for one in asked),
        "answers_missed": sum(one.right_missed for one in asked),
        **found,
        "by_class": {
            name: part([index for index, one in enumerate(asked) if one.thing.class_name == name])
            for name in sorted({one.thing.class_name for one in asked})
        },
        "slices": {
            field: {label: part(chosen) for label, chosen in members.items()}
            for field, members in slices_of(asked, photos, slices).items()
        },
        "by_photo": by_photo(asked, groups, seed),
    }


def slices_of(
    asked: Sequence[Asked], photos: Sequence[Photo], slices: Mapping[str, Mapping[str, str] | None]
) -> dict[str, dict[str, list[int]]]:
    """Questions by the split of their photos, and by fields of their annotations or columns of their photos."""
    found: dict[str, dict[str, list[int]]] = {"split": defaultdict(list)}
    for index, one in enumerate(asked):
        found["split"][photos[one.thing.photo].split or "none"].append(index)
    for field, names in slices.items():
        members: dict[str, list[int]] = defaultdict(list)
        values: dict[str, Any] = {}
        for index, one in enumerate(asked):
            value = value_at(one.thing.fields, field)
            value = photos[one.thing.photo].values.get(field) if value is None else value
            for own in value if isinstance(value, list) else [value]:
                if is_value(own):
                    values.setdefault(label_of(own, names), own)
                    members[label_of(own, names)].append(index)
        if len(members) > 1:
            found[field] = {
                label: members[label] for label in sorted(members, key=lambda label: natural(values[label]))
            }
    return found
