"""Photos that are all but the same: fingerprints, and the pairs whose fingerprints are alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from seamline.base.errors import SeamlineError
from seamline.base.files import sha256_of
from seamline.base.parallel import in_threads
from seamline.dataset.groups import Groups

HASH_BYTES = 16
# An image can be turned and mirrored in eight ways: mirrored left to right (1), top to bottom (2), rows and columns
# swapped after that (4), in sums. 0 is the image as it is.
ORIENTATIONS = range(8)
# What is compared with all others as they are. 6 is left out: it is 5 the other way round, and finds the same pairs.
TURNED = (1, 2, 3, 4, 5, 7)
HASHES_BYTES = HASH_BYTES * len(ORIENTATIONS)
THUMBNAIL_SIDE = 16
REDUCED = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}
DETAIL_PX = 64  # of the shorter side that are enough for the hash and the thumbnail
ALIKE = 0.95  # correlation of two thumbnails
PAIRS_AT_ONCE = 4096  # bounds the memory of comparing them
CANDIDATES_AT_ONCE = 1 << 21  # pairs of one band whose hashes are compared at once

Pixels = npt.NDArray[np.uint8]
Fingerprint = npt.NDArray[np.uint8]  # (896,): a hash for each orientation, then a thumbnail's rows of blue, green, red
Fingerprints = npt.NDArray[np.uint8]  # (images, 896)
Indices = npt.NDArray[np.int64]
Scalar = TypeVar("Scalar", bound=np.generic)


def fingerprint(path: Path, shorter_side_px: int) -> Fingerprint:
    """128-bit perceptual hashes, one for each way to turn the image, and the thumbnail that confirms them.

    The hash is dHash both ways: whether each of 8 x 8 grey cells is brighter than its left and its upper neighbour.
    On street photos unrelated ones differ in 24 bits or more, however they are turned; one encoded again at another
    quality, size or brightness in 10 or fewer. On plain backgrounds, where many cells are alike, 4 bits were seen
    between unrelated ones; their thumbnails of 16 x 16 colours correlate with 0.92 at most, those of the same photo
    with 0.98.

    Raises:
        SeamlineError: when the image cannot be decoded.
    """
    # A JPEG is decoded at a fraction of its size in a fraction of the time: 192,000 photos in minutes, not an hour.
    flag = next((flag for factor, flag in REDUCED.items() if shorter_side_px >= factor * DETAIL_PX), cv2.IMREAD_COLOR)
    image = cv2.imdecode(np.fromfile(path, dtype=np.uint8), flag)
    if image is None:
        raise SeamlineError(f"{path}: cannot be decoded.")
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    across = np.asarray(cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    down = np.asarray(cv2.resize(grey, (8, 9), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    hashes = [hashed(across, down, orientation) for orientation in ORIENTATIONS]
    thumbnail = cv2.resize(image, (THUMBNAIL_SIDE, THUMBNAIL_SIDE), interpolation=cv2.INTER_AREA)
    return np.concatenate((*hashes, thumbnail.ravel()))


def hashed(across: Pixels, down: Pixels, orientation: int) -> Pixels:
    """The hash of a turned image, from the 8 rows of 9 cells and the 9 rows of 8 cells of the image as it is.

    Bits of one hash do not say it: where two cells are equal, neither is brighter in any orientation.
    """
    across, down = turned(across, orientation), turned(down, orientation)
    if orientation & 4:
        across, down = down, across
    return np.packbits(np.concatenate(((across[:, 1:] > across[:, :-1]).ravel(), (down[1:] > down[:-1]).ravel())))


def turned(image: npt.NDArray[Scalar], orientation: int) -> npt.NDArray[Scalar]:
    """An array of rows and columns, mirrored and turned as ORIENTATIONS says."""
    image = image[:, ::-1] if orientation & 1 else image
    image = image[::-1] if orientation & 2 else image
    return image.swapaxes(0, 1) if orientation & 4 else image


def near_duplicates(fingerprints: Fingerprints, bits: int) -> Indices:
    """Pairs of positions whose hashes differ in at most `bits` bits and whose thumbnails are alike, sorted.

    Either as they are, or after one of them is mirrored or turned by right angles. Of several of one hash that are
    alike each is paired with the first only, and only that one with others: 10,000 copies of one photo are 9,999 pairs.
    """
    if not len(fingerprints):
        return np.zeros((0, 2), dtype=np.int64)
    first, copies = firsts_of_equal_hash(fingerprints)
    thumbnails = fingerprints[:, HASHES_BYTES:]
    pairs = [copies]
    for a, b in candidates(np.ascontiguousarray(fingerprints[first, :HASH_BYTES]), bits):
        a, b = first[a], first[b]
        alike = likeness(thumbnails, a, b) >= ALIKE
        pairs.append(np.stack((a[alike], b[alike]), axis=1))
    pairs += turned_pairs(fingerprints, first, bits)
    return np.unique(np.sort(np.concatenate(pairs), axis=1), axis=0)


def equal_files(paths: Sequence[Path]) -> Indices:
    """Pairs of positions of files with the same bytes, each with the first such file; (pairs, 2)."""
    sizes = [path.stat().st_size for path in paths]
    shared = {size for size, count in Counter(sizes).items() if count > 1}
    suspects = [index for index, size in enumerate(sizes) if size in shared]
    firsts: dict[str, int] = {}
    hashes = in_threads(lambda index: sha256_of(paths[index]), suspects)
    pairs = [(firsts.setdefault(digest, index), index) for index, digest in zip(suspects, hashes, strict=True)]
    return np.array([pair for pair in pairs if pair[0] != pair[1]], dtype=np.int64).reshape(-1, 2)


def turned_pairs(fingerprints: Fingerprints, first: Indices, bits: int) -> list[Indices]:
    """Pairs, out of the positions `first`, of which one is alike to the other mirrored or turned."""
    thumbnails = fingerprints[:, HASHES_BYTES:]
    upright = np.ascontiguousarray(fingerprints[first, :HASH_BYTES])
    pairs = []
    for orientation in TURNED:
        start = orientation * HASH_BYTES
        hashes = np.ascontiguousarray(fingerprints[first, start : start + HASH_BYTES])
        order = thumbnail_order(orientation)
        for a, b in candidates_between(hashes, upright, bits):
            a, b = first[a], first[b]
            alike = likeness(thumbnails, a, b, order) >= ALIKE
            pairs.append(np.stack((a[alike], b[alike]), axis=1))
    return pairs


def thumbnail_order(orientation: int) -> Indices:
    """Where in a thumbnail's values those of the turned one are."""
    numbers = np.arange(THUMBNAIL_SIDE**2 * 3).reshape(THUMBNAIL_SIDE, THUMBNAIL_SIDE, 3)
    return turned(numbers, orientation).ravel()


def candidates(hashes: Pixels, bits: int) -> Iterator[tuple[Indices, Indices]]:
    """Each pair of rows, once, that differ in at most `bits` bits.

    Two hashes so near are equal in at least one of bits + 1 bands, so only those that share a band are compared.
    """
    halves = hashes.view(np.uint64).T.copy()
    bands = bands_of(hashes, bits)
    for number, band in enumerate(bands):
        order = np.argsort(band, kind="stable")
        start, step = np.arange(len(order)), 1
        while len(start):  # each with the one `step` further in the same band, until no band is so large
            start = start[start + step < len(order)]
            start = start[band[order[start]] == band[order[start + step]]]
            a, b = order[start], order[start + step]
            near = sum(np.bitwise_count(half[a] ^ half[b]) for half in halves) <= bits
            a, b = a[near], b[near]
            new = ~(bands[:number, a] == bands[:number, b]).any(axis=0)  # else an earlier band had the pair
            yield a[new], b[new]
            step += 1


def candidates_between(queries: Pixels, hashes: Pixels, bits: int) -> Iterator[tuple[Indices, Indices]]:
    """Pairs of a row of `queries` and another row of `hashes` that differ in at most `bits` bits; some repeatedly."""
    query_halves, halves = (rows.view(np.uint64).T.copy() for rows in (queries, hashes))
    for query_band, band in zip(bands_of(queries, bits), bands_of(hashes, bits), strict=True):
        # Both in the order of the band, so that memory is read from beginning to end.
        query_order, order = np.argsort(query_band, kind="stable"), np.argsort(band, kind="stable")
        mine, others = query_halves[:, query_order], halves[:, order]
        low, high = (np.searchsorted(band[order], query_band[query_order], side=side) for side in ("left", "right"))
        counts = high - low
        ends = np.cumsum(counts)
        begin = 0
        while begin < len(counts):  # as many queries as have a bounded number of candidates, at least one
            before = ends[begin - 1] if begin else 0
            end = max(int(np.searchsorted(ends, before + CANDIDATES_AT_ONCE, side="right")), begin + 1)
            block = counts[begin:end]
            at = np.repeat(low[begin:end] - (ends[begin:end] - block - before), block)
            at += np.arange(len(at))
            differ = sum(
                np.bitwise_count(np.repeat(own[begin:end], block) ^ other[at])
                for own, other in zip(mine, others, strict=True)
            )
            near = np.flatnonzero(differ <= bits)
            a, b = query_order[np.searchsorted(ends, near + before, side="right")], order[at[near]]
            yield a[a != b], b[a != b]
            begin = end


def bands_of(hashes: Pixels, bits: int) -> npt.NDArray[np.uint64]:
    """(bits + 1, hashes): numbers that are equal where a band of the hashes is.

    A band takes every (bits + 1)-th bit, so that none lies in a plain background alone, where all images would share
    it.
    """
    unpacked = np.unpackbits(hashes, axis=1)
    bands = np.zeros((bits + 1, len(hashes)), dtype=np.uint64)
    for number in range(bits + 1):
        padded = np.zeros((len(hashes), HASH_BYTES), dtype=np.uint8)
        packed = np.packbits(unpacked[:, number :: bits + 1], axis=1)
        padded[:, : packed.shape[1]] = packed
        low, high = padded.view(np.uint64).T
        bands[number] = low + high * np.uint64(0x9E3779B97F4A7C15)  # two of one number are compared all the same
    return bands


def firsts_of_equal_hash(fingerprints: Fingerprints) -> tuple[Indices, Indices]:
    """Positions no two of which have one hash and are alike, and pairs (first, other) of all others."""
    thumbnails = fingerprints[:, HASHES_BYTES:]
    rows = np.ascontiguousarray(fingerprints[:, :HASH_BYTES]).view(f"V{HASH_BYTES}").ravel()
    group = np.unique(rows, return_inverse=True)[1].ravel()
    left = np.argsort(group, kind="stable")
    firsts, pairs = [], []
    while len(left):
        begins = np.flatnonzero(np.diff(group[left], prepend=-1))
        leaders = np.repeat(left[begins], np.diff(begins, append=len(left)))
        alike = (likeness(thumbnails, leaders, left) >= ALIKE) | (leaders == left)
        firsts.append(left[begins])
        linked = alike & (leaders != left)
        pairs.append(np.stack((leaders[linked], left[linked]), axis=1))
        left = left[~alike]
    return np.sort(np.concatenate(firsts)), np.concatenate(pairs)


def likeness(
    thumbnails: npt.NDArray[np.uint8], first: Indices, second: Indices, order: Indices | None = None
) -> npt.NDArray[np.float64]:
    """Pearson's correlation of pairs of rows, given by position; 1 for two of one colour each, whatever these are.

    Args:
        order: that in which the values of the first ones are taken; None: as they are.
    """
    result = np.empty(len(first))
    for begin in range(0, len(first), PAIRS_AT_ONCE):
        block = slice(begin, begin + PAIRS_AT_ONCE)
        rows = [thumbnails[positions[block]].astype(np.float32) for positions in (first, second)]
        if order is not None:
            rows[0] = rows[0][:, order]
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
