"""Splits that do not leak: groups, near-duplicates, and multi-label stratification over whole groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.dataset.groups import Groups

SPLITS = ("train", "val", "test")
FEWEST_GROUPS = 15  # that show an instance; from fewer the evaluation makes no intervals (bootstrap.FEWEST)
HASH_BYTES = 16
THUMBNAIL_SIDE = 16
REDUCED = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}
DETAIL_PX = 64  # of the shorter side that are enough for the hash and the thumbnail
ALIKE = 0.95  # correlation of two thumbnails
PAIRS_AT_ONCE = 4096  # bounds the memory of comparing them
IMAGES_APART = 0.015
NEAR_ENOUGH = 0.002  # of every share to its target; where groups are so many, moving single ones changes nothing

Shares = npt.NDArray[np.float64]
Fingerprint = npt.NDArray[np.uint8]  # (784,): HASH_BYTES, then a thumbnail's rows of blue, green, red
Fingerprints = npt.NDArray[np.uint8]  # (images, 784)
Indices = npt.NDArray[np.int64]
Assigned = npt.NDArray[np.int64]  # (images,) or (groups,): index into SPLITS


def fingerprint(path: Path, shorter_side_px: int) -> Fingerprint:
    """A 128-bit perceptual hash and the thumbnail that confirms it.

    The hash is dHash both ways: whether each of 8 x 8 grey cells is brighter than its left and its upper neighbour.
    On street photos unrelated ones differ in 25 bits or more, one encoded again at another quality, size or
    brightness in 10 or fewer. On plain backgrounds, where many cells are alike, 4 bits were seen between unrelated
    ones; their thumbnails of 16 x 16 colours correlate with 0.92 at most, those of the same photo with 0.98.

    Raises:
        SeamlineError: when the image cannot be decoded.
    """
    # A JPEG is decoded at a fraction of its size in a fraction of the time: 192,000 photos in minutes, not an hour.
    flag = next((flag for factor, flag in REDUCED.items() if shorter_side_px >= factor * DETAIL_PX), cv2.IMREAD_COLOR)
    image = cv2.imdecode(np.fromfile(path, dtype=np.uint8), flag)
    if image is None:
        raise SeamlineError(f"{path}: cannot be decoded.")
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    across = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA)
    down = cv2.resize(grey, (8, 9), interpolation=cv2.INTER_AREA)
    brighter = np.concatenate(((across[:, 1:] > across[:, :-1]).ravel(), (down[1:] > down[:-1]).ravel()))
    thumbnail = cv2.resize(image, (THUMBNAIL_SIDE, THUMBNAIL_SIDE), interpolation=cv2.INTER_AREA)
    return np.concatenate((np.packbits(brighter), thumbnail.ravel()))


def near_duplicates(fingerprints: Fingerprints, bits: int) -> Indices:
    """Pairs of positions whose hashes differ in at most `bits` bits and whose thumbnails are alike, sorted.

    Of several of one hash that are alike each is paired with the first only, and only that one with others: 10,000
    copies of one photo are 9,999 pairs. Two hashes so near are equal in at least one of bits + 1 bands, so only those
    that share a band are compared. A band takes every (bits + 1)-th bit, so that none lies in a plain background
    alone, where all images would share it.
    """
    if not len(fingerprints):
        return np.zeros((0, 2), dtype=np.int64)
    first, copies = firsts_of_equal_hash(fingerprints)
    pairs = [copies]
    hashes = np.ascontiguousarray(fingerprints[first, :HASH_BYTES])
    unpacked = np.unpackbits(hashes, axis=1)
    halves = hashes.view(np.uint64).T.copy()
    bands = np.empty((bits + 1, len(first)), dtype=np.int64)
    for number in range(bits + 1):
        packed = np.packbits(unpacked[:, number :: bits + 1], axis=1)
        band = bands[number] = np.unique(packed, axis=0, return_inverse=True)[1].ravel()
        order = np.argsort(band, kind="stable")
        start, step = np.arange(len(order)), 1
        while len(start):  # each with the one `step` further in the same band, until no band is so large
            start = start[start + step < len(order)]
            start = start[band[order[start]] == band[order[start + step]]]
            a, b = order[start], order[start + step]
            near = sum(np.bitwise_count(half[a] ^ half[b]) for half in halves) <= bits
            a, b = a[near], b[near]
            new = ~(bands[:number, a] == bands[:number, b]).any(axis=0)  # else an earlier band had the pair
            a, b = first[a[new]], first[b[new]]
            alike = likeness(fingerprints[:, HASH_BYTES:], a, b) >= ALIKE
            pairs.append(np.stack((a[alike], b[alike]), axis=1))
            step += 1
    return np.unique(np.sort(np.concatenate(pairs), axis=1), axis=0)


def firsts_of_equal_hash(fingerprints: Fingerprints) -> tuple[Indices, Indices]:
    """Positions no two of which have one hash and are alike, and pairs (first, other) of all others."""
    rows = np.ascontiguousarray(fingerprints[:, :HASH_BYTES]).view(f"V{HASH_BYTES}").ravel()
    group = np.unique(rows, return_inverse=True)[1].ravel()
    left = np.argsort(group, kind="stable")
    firsts, pairs = [], []
    while len(left):
        begins = np.flatnonzero(np.diff(group[left], prepend=-1))
        leaders = np.repeat(left[begins], np.diff(begins, append=len(left)))
        alike = (likeness(fingerprints[:, HASH_BYTES:], leaders, left) >= ALIKE) | (leaders == left)
        firsts.append(left[begins])
        linked = alike & (leaders != left)
        pairs.append(np.stack((leaders[linked], left[linked]), axis=1))
        left = left[~alike]
    return np.sort(np.concatenate(firsts)), np.concatenate(pairs)


def likeness(thumbnails: npt.NDArray[np.uint8], first: Indices, second: Indices) -> npt.NDArray[np.float64]:
    """Pearson's correlation of pairs of rows, given by position; 1 for two of one colour each, whatever these are."""
    result = np.empty(len(first))
    for begin in range(0, len(first), PAIRS_AT_ONCE):
        block = slice(begin, begin + PAIRS_AT_ONCE)
        rows = [thumbnails[positions[block]].astype(np.float32) for positions in (first, second)]
        centred = [values - values.mean(axis=1, keepdims=True) for values in rows]
        variances = [(values**2).mean(axis=1) for values in centred]
        covariance = (centred[0] * centred[1]).mean(axis=1)
        correlation = covariance / np.sqrt(np.maximum(variances[0] * variances[1], 1))
        result[block] = np.where(np.maximum(*variances) < 1, 1.0, correlation)
    return result


def joined_groups(groups: Groups, pairs: npt.NDArray[np.int64]) -> Groups:
    """Groups after those that a pair of positions connects have become one."""
    nodes = int(groups.max(initial=-1)) + 1
    edges = groups[pairs]
    graph = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(nodes, nodes))
    _, labels = connected_components(graph, directed=False)
    return np.asarray(labels[groups], dtype=np.int64)


def official_splits(values: Sequence[Any], official: Mapping[str, str]) -> Assigned:
    """Our split of each image whose split in the source is named; -1 for the others.

    Args:
        values: the field `split` of every image.
        official: our split -> the source's.

    Raises:
        SeamlineError: when the source has no such split, or what is left over does not fit what is not named.
    """
    known = sorted({str(value) for value in values if value is not None})
    for ours, theirs in official.items():
        if theirs not in known:
            raise SeamlineError(
                f"split.official: no image of the subset is of the source's split {theirs!r}, which {ours} shall be; "
                f"there are {', '.join(known) or 'none'}."
            )
    fixed = np.full(len(values), -1, dtype=np.int64)
    for ours, theirs in official.items():
        fixed[[value == theirs for value in values]] = SPLITS.index(ours)
    left_over, open_splits = int((fixed < 0).sum()), [split for split in SPLITS if split not in official]
    if left_over and not open_splits:
        raise SeamlineError(f"split.official: {left_over} images are of no split it names; there are {known}.")
    if open_splits and not left_over:
        raise SeamlineError(
            f"split.official: nothing is left for {' and '.join(open_splits)}; leave a split out, and its images are "
            "divided by split.ratios."
        )
    return fixed


def stratified(groups: Groups, instances: npt.NDArray[np.int64], ratios: Sequence[float], seed: int) -> Assigned:
    """The split of each image: whole groups together, images and every class's instances close to the ratios.

    Groups go one by one, those with the rarest class first, where they are needed most (Sechidis et al. 2011,
    over groups); then single groups are moved and pairs swapped as long as that brings the shares closer.

    Args:
        groups: (images,), group numbers from 0 without gaps.
        instances: (images, classes), how many instances of each class an image shows.
        ratios: the share of each split; they add up to 1.
        seed: of the order among equals.

    Raises:
        SeamlineError: when there are fewer groups than splits.
    """
    counts = group_counts(groups, instances)
    if len(counts) < len(ratios):
        raise SeamlineError(f"split: {len(counts)} groups of images cannot fill {len(ratios)} splits; use more images.")
    totals = counts.sum(axis=0)
    shares = counts / totals  # of each group in all images, images without instances, and each class
    target = np.array(ratios)[:, None] * np.ones_like(totals)
    rng = np.random.default_rng(seed)
    rarity = np.where(counts > 0, totals, np.inf).min(axis=1)
    assigned = np.full(len(counts), -1)
    filled = np.zeros_like(target)
    for group in np.lexsort((rng.random(len(counts)), -shares.max(axis=1), rarity)):
        added = shares[group]
        # How much the squared distance to the target would grow, by the split's ratio. (Written out in another way,
        # rounding would break ties differently, and a new version would divide old data anew.)
        growth = (((filled - target + added) ** 2 - (filled - target) ** 2) / target).sum(axis=1)
        assigned[group] = growth.argmin()
        filled[assigned[group]] += added
    for split in range(len(ratios)):
        if not (assigned == split).any():  # with very few groups the largest ratio may have taken them all
            largest = np.bincount(assigned, minlength=len(ratios)).argmax()
            group = min(np.flatnonzero(assigned == largest), key=lambda index: shares[index].sum())
            filled[largest] -= shares[group]
            filled[split] += shares[group]
            assigned[group] = split
    if np.abs(filled - target).max() > NEAR_ENOUGH:
        refine(assigned, filled, shares, target, rng)
    if np.abs(filled[:, 0] - target[:, 0]).max() > IMAGES_APART:
        # With many rare classes the images are one share among hundreds. They count as much as all classes together.
        weights = np.ones(shares.shape[1])
        weights[0] = shares.shape[1]
        refine(assigned, filled * weights, shares * weights, target * weights, rng)
    return np.asarray(assigned[groups])


def group_counts(groups: Groups, instances: npt.NDArray[np.int64]) -> Shares:
    """A row a group: images, images without an instance, instances of each class; columns of zeros left out."""
    columns = [np.ones(len(groups)), (instances.sum(axis=1) == 0).astype(float), *instances.T.astype(float)]
    counts = np.stack([np.bincount(groups, weights=column) for column in columns], axis=1)
    return np.asarray(counts[:, counts.sum(axis=0) > 0], dtype=np.float64)


def refine(
    assigned: Assigned, filled: Shares, shares: Shares, target: Shares, rng: np.random.Generator, rounds: int = 20
) -> None:
    """Move single groups, or swap two, while the sum of squared distances to the target falls; changes in place."""

    def distance(change: Shares, first: int, second: int) -> float:
        before = ((filled[first] - target[first]) ** 2 + (filled[second] - target[second]) ** 2).sum()
        gained, lost = filled[first] + change - target[first], filled[second] - change - target[second]
        return float((gained**2 + lost**2).sum() - before)

    count = len(assigned)
    members = np.bincount(assigned, minlength=len(target))
    for _ in range(rounds):
        improved = False
        partners = rng.permutation(count)
        for group in range(count):
            source = int(assigned[group])
            moves = [
                (distance(shares[group], split, source), split, -1)
                for split in range(len(target))
                if split != source and members[source] > 1
            ]
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
                else:
                    members[source] -= 1
                    members[split] += 1
                improved = True
        if not improved:
            return


def split_report(
    assigned: Assigned,
    groups: Groups,
    instances: npt.NDArray[np.int64],
    names: Sequence[str],
    pairs: npt.NDArray[np.int64] | None,
    joined: Groups,
) -> Record:
    """Counts and the proof that nothing leaks, for reports/split.json.

    Args:
        assigned: (images,), index into SPLITS.
        groups: (images,), the group its field gives (before near-duplicates are joined).
        instances: (images, classes), how many instances of each class an image shows.
        names: of the classes.
        pairs: (pairs, 2), positions of near-duplicate images; None when they were not looked for.
        joined: (images,), the groups that were kept together.
    """
    report: Record = {}
    for index, split in enumerate(SPLITS):
        of_split = instances[assigned == index]
        report[split] = {
            "images": len(of_split),
            "share": round(len(of_split) / len(assigned), 4),
            "groups_showing_an_instance": len(np.unique(joined[(assigned == index) & instances.any(axis=1)])),
            "images_without_instance": int((of_split.sum(axis=1) == 0).sum()),
            "classes": {
                name: {"images": int((of_split[:, number] > 0).sum()), "instances": int(of_split[:, number].sum())}
                for number, name in enumerate(names)
                if of_split[:, number].any()
            },
        }
    totals = [instances[assigned == index].sum(axis=0) for index in range(len(SPLITS))]
    report["divergence"] = {
        f"{SPLITS[a]}_{SPLITS[b]}": round(class_divergence(totals[a], totals[b]), 6)
        for a, b in combinations(range(len(SPLITS)), 2)
    }
    of_groups = np.unique(np.stack((groups, assigned), axis=1), axis=0)
    report["groups"] = len(np.unique(groups))
    report["images_in_a_group_of_their_own"] = int((np.bincount(groups) == 1).sum())
    report["largest_group_share"] = round(float(np.bincount(joined).max() / len(joined)), 4)
    report["leaked_groups"] = int((np.bincount(of_groups[:, 0]) > 1).sum())
    report["near_duplicates"] = None if pairs is None else len(pairs)
    report["near_duplicates_across_splits"] = (
        None if pairs is None else int((assigned[pairs[:, 0]] != assigned[pairs[:, 1]]).sum())
    )
    return report


def class_divergence(first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]) -> float:
    """Jensen-Shannon divergence of two splits' class counts in bits: 0 for equal shares, 1 for nothing in common."""
    if not first.sum() or not second.sum():
        return 0.0 if first.sum() == second.sum() else 1.0
    shares = np.stack((first / first.sum(), second / second.sum()))
    mean = shares.mean(axis=0)
    ratios = np.divide(shares, mean, out=np.ones_like(shares), where=shares > 0)
    return float(np.maximum((shares * np.log2(ratios)).sum(axis=1).mean(), 0))
