"""Perceptual hashes of images, and the search for similar ones.

Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010, section 3.2.1 (pHash): the signs
of low frequencies about their median are stable under encoding, scaling, brightness and contrast.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

BITS, FINE_WORDS = 64, 4
MAX_DISTANCE = 10  # beyond it faces of different people match, and the search gets slow
# Of 256 bits. Copies (JPEG at quality 30, a third of the size, brighter, darker) lie below it, faces of different
# people of one framing above it: tests/data/inspection/test_perceptual_hash.py measures both.
FINE_LIMIT = 40
_SIDE, _COARSE, _FINE = 32, slice(1, 9), slice(1, 17)
# in grey levels, of the orthonormal DCT: a face has 20 and more, one colour saved as JPEG less than 1
_FLAT_RMS = 2.0
_MOST_SHARED = 4

Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class ImageHash:
    """`coarse`: 64 bits for the search. `fine`: 256 bits in four words, to confirm its results."""

    coarse: int
    fine: tuple[int, ...]


def perceptual_hash(image: NDArray[np.uint8]) -> ImageHash | None:
    """The hash of an RGB image [H, W, 3], uint8; None for a flat one, whose hash would be that of its noise.

    Each bit tells whether a DCT coefficient of the 32x32 grey image exceeds the median: of the frequencies 1 to 8 both
    ways as in Zauner's paper, and of 1 to 16. Low ones alone confuse faces of one framing.
    """
    # the area filter, adapted to the size, replaces Zauner's 7x7 mean
    small = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    spectrum = cv2.dct(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32))
    coarse = spectrum[_COARSE, _COARSE]
    if float(np.sqrt(np.mean(coarse**2))) < _FLAT_RMS:
        return None
    return ImageHash(_words(coarse)[0], _words(spectrum[_FINE, _FINE]))


def _words(band: NDArray[Any]) -> tuple[int, ...]:
    return tuple(np.packbits(band > np.median(band)).view(">u8").tolist())


def hamming(left: Hashes, right: Hashes) -> NDArray[np.uint8]:
    """The number of bits in which hashes differ, elementwise [N]."""
    # NumPy has bitwise_count since 2.0; this is Warren, Hacker's Delight, section 5-1
    x = left ^ right
    x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return ((x * np.uint64(0x0101010101010101)) >> np.uint64(56)).astype(np.uint8)


def near_pairs(hashes: Hashes, distance: int) -> NDArray[np.int64]:
    """Every pair i < j of hashes [N] that differ in at most `distance` bits, in order [P, 2].

    Multi-index hashing (Norouzi et al., CVPR 2012; with several parts: Manku et al., WWW 2007): of distance + k parts
    of the bits, at least k are equal in such a pair, so that only hashes that share k parts are compared. Pass each
    hash once: N equal ones are N (N - 1) / 2 pairs. Raises ValueError for a distance outside 0 to MAX_DISTANCE.
    """
    if not 0 <= distance <= MAX_DISTANCE:
        raise ValueError(f"distance {distance}: must be 0 to {MAX_DISTANCE}")
    count = len(hashes)
    if count < 2:
        return np.empty((0, 2), np.int64)
    same = _chance_of_equal_bits(hashes)
    shared = _shared_parts(count, distance, float(np.log2(same).sum()))
    masks = _part_masks(same, distance + shared)
    # one int64 per pair: most pairs share more than k parts, and are found repeatedly
    found = np.empty(0, np.int64)
    for chosen in combinations(masks, shared):
        mask = np.bitwise_or.reduce(np.array(chosen, np.uint64))
        found = np.union1d(found, _pairs_with_equal_key(hashes, hashes & mask, distance))
    return np.stack([found // count, found % count], axis=1)


def _chance_of_equal_bits(hashes: Hashes) -> NDArray[np.float64]:
    """How often two hashes agree in each bit [64], from the lowest; a half at best."""
    ones = np.array([np.mean((hashes >> np.uint64(bit)) & np.uint64(1)) for bit in range(BITS)])
    return np.asarray(ones**2 + (1 - ones) ** 2, np.float64)


def _shared_parts(count: int, distance: int, log_same: float) -> int:
    """The k with the least work, assuming independent bits."""

    def work(shared: int) -> float:
        parts = distance + shared
        compared = count**2 / 2 * 2 ** (log_same * shared / parts)
        return comb(parts, shared) * (compared + count * np.log2(count))

    return min(range(1, _MOST_SHARED + 1), key=work)


def _part_masks(same: NDArray[np.float64], parts: int) -> list[int]:
    """Masks of the parts. Informative bits are distributed first: with faces of one framing many carry little."""
    order = np.argsort(same, kind="stable")
    return [sum(1 << int(bit) for bit in order[part::parts]) for part in range(parts)]


def _pairs_with_equal_key(hashes: Hashes, keys: Hashes, distance: int) -> NDArray[np.int64]:
    """i * N + j of each pair with equal keys within the distance.

    Sorted by key, each hash is compared with the next one, then with the one after, as long as the keys are equal. That
    needs no more memory than the hashes.
    """
    count = len(hashes)
    order = np.argsort(keys, kind="stable")  # stable: i < j in each pair
    keys, hashes = keys[order], hashes[order]
    found = [np.empty(0, np.int64)]
    at, step = np.arange(count), 0
    while at.size:
        step += 1
        at = at[at < count - step]
        at = at[keys[at] == keys[at + step]]
        near = at[hamming(hashes[at], hashes[at + step]) <= distance]
        found.append(order[near] * count + order[near + step])
    return np.concatenate(found)
