"""Splits that do not leak: groups, near-duplicates, and multi-label stratification over whole groups."""

from __future__ import annotations

import difflib
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from seamline.coco import Record
from seamline.errors import SeamlineError

SPLITS = ("train", "val", "test")
HASH_BITS = 64


def field_groups(images: Sequence[Record], field: str | None) -> dict[int, Hashable]:
    """Image id -> group: the value of a field of the image record; an image without it is a group of its own.

    Raises:
        SeamlineError: when no image has the field, but one of a similar name: most likely a typing error, and one
            that would let the groups leak.
    """
    if field is not None and not any(image.get(field) is not None for image in images):
        near = difflib.get_close_matches(field, sorted({key for image in images for key in image}), n=1)
        if near:
            raise SeamlineError(f"group_by: no image has the field {field!r}; did you mean {near[0]!r}? null: none.")
        print(f"no image has the field {field!r}: each image is a group of its own")
    return {
        image["id"]: ("image", image["id"])
        if field is None or image.get(field) is None
        else ("field", str(image[field]))
        for image in images
    }


def difference_hash(path: Path) -> int:
    """64-bit perceptual hash: whether each of 8 x 8 grey cells is brighter than its left neighbour (dHash)."""
    grey = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_GRAYSCALE)
    if grey is None:
        raise SeamlineError(f"{path}: cannot be decoded.")
    cells = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA)
    return int.from_bytes(np.packbits(cells[:, 1:] > cells[:, :-1]).tobytes(), "big")


def near_duplicates(hashes: Mapping[int, int], bits: int) -> list[tuple[int, int]]:
    """Pairs of image ids whose hashes differ in at most `bits` bits.

    Two such hashes are equal in at least one of bits + 1 bands, so only images that share a band are compared.
    """
    pairs = set()
    edges = np.linspace(0, HASH_BITS, bits + 2).astype(int)
    for low, high in pairwise(edges):
        band = ((1 << int(high - low)) - 1) << int(low)
        buckets: dict[int, list[int]] = defaultdict(list)
        for image, value in hashes.items():
            buckets[value & band].append(image)
        for bucket in buckets.values():
            for position, first in enumerate(bucket):
                for second in bucket[position + 1 :]:
                    if (hashes[first] ^ hashes[second]).bit_count() <= bits:
                        pairs.add((min(first, second), max(first, second)))
    return sorted(pairs)


def joined_groups(groups: Mapping[int, Hashable], pairs: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Image id -> number of its group, after groups that a pair connects have become one."""
    images = sorted(groups)
    position = {image: index for index, image in enumerate(images)}
    first_of: dict[Hashable, int] = {}
    edges = [(position[a], position[b]) for a, b in pairs]
    edges += [(position[image], first_of.setdefault(groups[image], position[image])) for image in images]
    rows, columns = zip(*edges, strict=True) if edges else ((), ())
    graph = coo_matrix((np.ones(len(edges)), (rows, columns)), shape=(len(images), len(images)))
    _, labels = connected_components(graph, directed=False)
    return {image: int(labels[position[image]]) for image in images}


def stratified(
    groups: Mapping[int, int], labels: Mapping[int, Sequence[int]], ratios: Mapping[str, float], seed: int
) -> dict[int, str]:
    """Image id -> split, whole groups together, images and every class's instances close to the ratios.

    Groups go one by one, those with the rarest class first, where they are needed most (Sechidis et al. 2011,
    over groups); then single groups are moved and pairs swapped as long as that brings the shares closer.

    Args:
        groups: image id -> group number.
        labels: image id -> its instances' classes, one entry an instance.
        ratios: split -> share; they add up to 1.
        seed: of the order among equals.

    Raises:
        SeamlineError: when there are fewer groups than splits.
    """
    numbers = sorted(set(groups.values()))
    names = list(ratios)
    if len(numbers) < len(names):
        raise SeamlineError(f"split: {len(numbers)} groups of images cannot fill {len(names)} splits; use more images.")
    counts = group_counts(groups, labels)
    totals = counts.sum(axis=0)
    shares = counts / totals  # of each group in all images, images without instances, and each class
    target = np.array([ratios[name] for name in names])[:, None] * np.ones_like(totals, dtype=np.float64)
    rng = np.random.default_rng(seed)
    rarity = np.where(counts > 0, totals, np.inf).min(axis=1)
    order = np.lexsort((rng.random(len(numbers)), -shares.max(axis=1), rarity))
    assigned = np.full(len(numbers), -1)
    filled = np.zeros_like(target)
    for group in order:
        distances = [imbalance(filled, target, split, shares[group]) for split in range(len(names))]
        assigned[group] = int(np.argmin(distances))
        filled[assigned[group]] += shares[group]
    for split in range(len(names)):
        if not (assigned == split).any():  # with very few groups the largest ratio may have taken them all
            largest = np.bincount(assigned, minlength=len(names)).argmax()
            group = min(np.flatnonzero(assigned == largest), key=lambda index: shares[index].sum())
            filled[largest] -= shares[group]
            filled[split] += shares[group]
            assigned[group] = split
    refine(assigned, filled, shares, target, rng)
    split_of = {number: names[assigned[index]] for index, number in enumerate(numbers)}
    return {image: split_of[group] for image, group in groups.items()}


def group_counts(groups: Mapping[int, int], labels: Mapping[int, Sequence[int]]) -> npt.NDArray[np.float64]:
    """A row a group: images, images without an instance, instances of each class; columns of zeros left out."""
    numbers = {number: index for index, number in enumerate(sorted(set(groups.values())))}
    classes = {label: index for index, label in enumerate(sorted({c for found in labels.values() for c in found}))}
    counts = np.zeros((len(numbers), 2 + len(classes)))
    for image, group in groups.items():
        row = counts[numbers[group]]
        row[0] += 1
        row[1] += not labels[image]
        for label in labels[image]:
            row[2 + classes[label]] += 1
    kept: npt.NDArray[np.float64] = counts[:, counts.sum(axis=0) > 0]
    return kept


def imbalance(
    filled: npt.NDArray[np.float64], target: npt.NDArray[np.float64], split: int, added: npt.NDArray[np.float64]
) -> float:
    """How much the squared distance to the target shares grows when a group goes to a split, by its ratio."""
    gap = filled[split] - target[split]
    return float((((gap + added) ** 2 - gap**2) / target[split]).sum())


def refine(
    assigned: npt.NDArray[np.int64],
    filled: npt.NDArray[np.float64],
    shares: npt.NDArray[np.float64],
    target: npt.NDArray[np.float64],
    rng: np.random.Generator,
    rounds: int = 20,
) -> None:
    """Move single groups, or swap two, while the sum of squared distances to the target falls; changes in place."""

    def distance(change: npt.NDArray[np.float64], first: int, second: int) -> float:
        before = ((filled[first] - target[first]) ** 2 + (filled[second] - target[second]) ** 2).sum()
        gained, lost = filled[first] + change - target[first], filled[second] - change - target[second]
        return float((gained**2 + lost**2).sum() - before)

    count = len(assigned)
    for _ in range(rounds):
        improved = False
        partners = rng.permutation(count)
        for group in range(count):
            source = int(assigned[group])
            members = int((assigned == source).sum())
            moves = [(distance(shares[group], split, source), split, -1) for split in range(len(target))]
            moves = [move for move in moves if move[1] != source and members > 1]
            other = int(partners[group])
            if assigned[other] != source:
                split = int(assigned[other])
                moves.append((distance(shares[group] - shares[other], split, source), split, other))
            if not moves:
                continue
            gain, split, other = min(moves)
            if gain < -1e-12:
                change = shares[group] - (shares[other] if other >= 0 else 0)
                filled[split] += change
                filled[source] -= change
                assigned[group] = split
                if other >= 0:
                    assigned[other] = source
                improved = True
        if not improved:
            return


def split_report(
    split_of: Mapping[int, str],
    groups: Mapping[int, Hashable],
    labels: Mapping[int, Sequence[str]],
    pairs: Iterable[tuple[int, int]] | None,
) -> Record:
    """Counts and the proof that nothing leaks, for reports/split.json.

    Args:
        split_of: image id -> split.
        groups: image id -> the group its field gives (before near-duplicates are joined).
        labels: image id -> its instances' class names.
        pairs: near-duplicate images; None when they were not looked for.
    """
    splits_of_group: dict[Hashable, set[str]] = defaultdict(set)
    for image, split in split_of.items():
        splits_of_group[groups[image]].add(split)
    report: Record = {}
    for split in SPLITS:
        members = [image for image in split_of if split_of[image] == split]
        instances = Counter(name for image in members for name in labels[image])
        images = Counter(name for image in members for name in set(labels[image]))
        report[split] = {
            "images": len(members),
            "share": round(len(members) / len(split_of), 4),
            "images_without_instance": sum(not labels[image] for image in members),
            "classes": {name: {"images": images[name], "instances": instances[name]} for name in sorted(instances)},
        }
    report["groups"] = len(splits_of_group)
    report["images_in_a_group_of_their_own"] = sum(count == 1 for count in Counter(groups.values()).values())
    report["leaked_groups"] = sum(len(splits) > 1 for splits in splits_of_group.values())
    report["near_duplicates_across_splits"] = (
        None if pairs is None else sum(split_of[a] != split_of[b] for a, b in pairs)
    )
    return report
