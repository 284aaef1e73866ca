from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefel.data.dataset import ImageDataset
from edgefel.data.inspection.perceptual_hash import (
    FINE_LIMIT,
    MAX_DISTANCE,
    ImageHash,
    hamming,
    near_pairs,
    perceptual_hash,
)
from edgefel.data.open import open_dataset

CHANGES = {
    "JPEG": lambda face: cv2.imdecode(cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], 1),
    "brighter": lambda face: cv2.convertScaleAbs(face, alpha=1.0, beta=25),
    "darker": lambda face: cv2.convertScaleAbs(face, alpha=0.6),
    "half the size": lambda face: cv2.resize(face, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "twice the size": lambda face: cv2.resize(face, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC),
}


def distances(one: ImageHash, other: ImageHash) -> tuple[int, int]:
    fine = hamming(np.array(one.fine, np.uint64), np.array(other.fine, np.uint64)).sum()
    return (one.coarse ^ other.coarse).bit_count(), int(fine)


@pytest.fixture(scope="module")
def faces(faces_folder) -> ImageDataset:
    return open_dataset(faces_folder)


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_face_has_a_near_hash(faces, change):
    found = 0
    for index in range(len(faces)):
        face = faces.load(index)
        before, after = perceptual_hash(face), perceptual_hash(CHANGES[change](face))
        coarse, fine = distances(before, after)
        found += coarse <= 4 and fine <= FINE_LIMIT
    assert found >= 0.98 * len(faces)


def test_faces_of_different_people_have_distant_hashes(faces):
    hashes = [perceptual_hash(faces.load(index)) for index in range(len(faces))]
    groups = faces.groups()
    apart = [
        distances(hashes[i], hashes[j]) for i in range(len(faces)) for j in range(i) if groups[i] != groups[j]
    ]
    assert min(fine for _, fine in apart) > FINE_LIMIT


def test_the_hash_is_the_sign_of_the_low_frequencies():
    """One cosine of frequency (2, 5) on grey: its bit, and no bit below it in value, is set."""
    at = np.arange(32) + 0.5
    wave = np.outer(np.cos(np.pi * 2 * at / 32), np.cos(np.pi * 5 * at / 32))
    noise = np.random.default_rng(0).normal(0, 2, (32, 32))
    grey = np.clip(128 + 60 * wave + noise, 0, 255).astype(np.uint8)
    bits = np.unpackbits(
        np.array([perceptual_hash(np.repeat(grey[..., None], 3, 2)).coarse], ">u8").view(np.uint8)
    )
    assert bits.sum() == 32
    assert bits.reshape(8, 8)[1, 4] == 1  # rows and columns begin at frequency 1
    inverted = perceptual_hash(np.repeat(255 - grey[..., None], 3, 2)).coarse
    assert (inverted ^ int.from_bytes(np.packbits(bits).tobytes(), "big")).bit_count() > 60


@pytest.mark.parametrize("quality", [20, 95])
def test_one_colour_has_no_hash(quality):
    rng = np.random.default_rng(1)
    plain = np.full((90, 120, 3), (40, 80, 120), np.uint8) + rng.integers(0, 3, (90, 120, 3), np.uint8)
    encoded = cv2.imencode(".jpg", plain, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    assert perceptual_hash(plain) is None
    assert perceptual_hash(cv2.imdecode(encoded, 1)) is None


def test_hamming_counts_bits():
    rng = np.random.default_rng(2)
    left, right = rng.integers(0, 2**64, (2, 1000), dtype=np.uint64)
    left[:2], right[:2] = (0, 7), (2**64 - 1, 7)
    expected = [(int(a) ^ int(b)).bit_count() for a, b in zip(left, right, strict=True)]
    assert hamming(left, right).tolist() == expected
    assert expected[:2] == [64, 0]


def brute_force(hashes, distance):
    first, second = np.triu_indices(len(hashes), 1)
    apart = np.array(
        [(int(hashes[i]) ^ int(hashes[j])).bit_count() for i, j in zip(first, second, strict=True)]
    )
    near = apart <= distance
    return np.stack([first[near], second[near]], 1).tolist(), apart[near].tolist()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 60),
    distance=st.integers(0, MAX_DISTANCE),
    skew=st.floats(0.02, 0.98),
)
def test_the_search_finds_what_brute_force_finds(seed, count, distance, skew):
    """Random hashes with uneven bits, and copies of them with some bits flipped, equal ones among them."""
    rng = np.random.default_rng(seed)
    bits = rng.random((count, 64)) < rng.permutation(np.linspace(skew, 0.5, 64))
    flipped = bits ^ (rng.random((count, 64)) < rng.uniform(0, 0.15, (count, 1)))
    flipped[: count // 5] = bits[: count // 5]
    packed = np.packbits(np.concatenate([bits, flipped]), axis=1)
    hashes = rng.permutation(packed.view(">u8").ravel().astype(np.uint64))
    pairs = near_pairs(hashes, distance)
    apart = hamming(*hashes[pairs.T])
    assert (pairs.tolist(), apart.tolist()) == brute_force(hashes, distance)


def test_the_search_compares_few(monkeypatch):
    """200,000 hashes are 2e10 pairs, which nothing could compare in a test."""
    rng = np.random.default_rng(3)
    hashes = rng.integers(0, 2**64, 200_000, dtype=np.uint64)
    for bit in range(4):
        hashes[100 + bit] = hashes[50] ^ np.uint64((1 << 16 * (bit + 1)) - (1 << 16 * (bit + 1) - 1 - bit))
    from edgefel.data.inspection import perceptual_hash as module

    compared = 0

    def counted(left, right):
        nonlocal compared
        compared += len(left)
        return hamming(left, right)

    monkeypatch.setattr(module, "hamming", counted)
    pairs = near_pairs(hashes, 4)
    assert [50, 100] in pairs.tolist()
    assert hamming(*hashes[pairs.T]).max() <= 4
    assert compared < 200 * len(hashes)


@pytest.mark.parametrize("distance", [-1, MAX_DISTANCE + 1])
def test_a_distance_out_of_range_is_refused(distance):
    with pytest.raises(ValueError, match="0 to 10"):
        near_pairs(np.zeros(2, np.uint64), distance)
