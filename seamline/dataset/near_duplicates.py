"""Photos that are all but the same: fingerprints, and the pairs whose fingerprints are alike."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from seamline.base.errors import SeamlineError
from seamline.dataset.groups import Groups

HASH_BYTES = 16
THUMBNAIL_SIDE = 16
REDUCED = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}
DETAIL_PX = 64  # of the shorter side that are enough for the hash and the thumbnail
ALIKE = 0.95  # correlation of two thumbnails
PAIRS_AT_ONCE = 4096  # bounds the memory of comparing them

Fingerprint = npt.NDArray[np.uint8]  # (784,): HASH_BYTES, then a thumbnail's rows of blue, green, red
Fingerprints = npt.NDArray[np.uint8]  # (images, 784)
Indices = npt.NDArray[np.int64]


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
