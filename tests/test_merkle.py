"""The tree against RFC 6962 read literally, and against the vectors that Certificate Transparency is tested with.

The vectors are those of github.com/transparency-dev/merkle (testonly/constants.go, proof/verify_test.go).
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange import merkle
from exchange.merkle import Frontier, leaf_hash, levels

LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    bytes.fromhex(text)
    for text in (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    )
]
INCLUSION = {  # (index, size): path
    (0, 8): (
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ),
    (5, 8): (
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ),
    (2, 3): ("fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",),
    (1, 5): (
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ),
}
CONSISTENCY = {  # (old, new): proof
    (1, 1): (),
    (1, 8): (
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ),
    (6, 8): (
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ),
    (2, 5): (
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ),
    (6, 7): (
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ),
}
HASHES = [leaf_hash(leaf) for leaf in LEAVES]
NODES = levels(HASHES)


# --- RFC 6962 read literally: D is the list of leaves -----------------------------------------------------------------


def split(n: int) -> int:
    k = 1
    while 2 * k < n:
        k *= 2
    return k


def mth(d: Sequence[bytes]) -> bytes:
    if not d:
        return sha256(b"").digest()
    if len(d) == 1:
        return sha256(b"\x00" + d[0]).digest()
    k = split(len(d))
    return sha256(b"\x01" + mth(d[:k]) + mth(d[k:])).digest()


def path(m: int, d: Sequence[bytes]) -> list[bytes]:
    if len(d) == 1:
        return []
    k = split(len(d))
    return [*path(m, d[:k]), mth(d[k:])] if m < k else [*path(m - k, d[k:]), mth(d[:k])]


def subproof(m: int, d: Sequence[bytes], b: bool) -> list[bytes]:
    if m == len(d):
        return [] if b else [mth(d)]
    k = split(len(d))
    return [*subproof(m, d[:k], b), mth(d[k:])] if m <= k else [*subproof(m - k, d[k:], False), mth(d[:k])]


def data(size: int) -> list[bytes]:
    return [b"leaf %d" % i for i in range(size)]


# --- vectors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", range(9))
def test_roots_are_those_of_certificate_transparency(size: int) -> None:
    assert merkle.root(size, NODES) == ROOTS[size]
    frontier = Frontier()
    for leaf in HASHES[:size]:
        frontier.append(leaf)
    assert frontier.root() == ROOTS[size]


@pytest.mark.parametrize(("place", "expected"), INCLUSION.items())
def test_inclusion_proofs_are_those_of_certificate_transparency(
    place: tuple[int, int], expected: tuple[str, ...]
) -> None:
    index, size = place
    proof = merkle.inclusion_proof(index, size, NODES)
    assert [step.hex() for step in proof] == list(expected)
    assert merkle.verify_inclusion(HASHES[index], index, size, proof, ROOTS[size])


@pytest.mark.parametrize(("sizes", "expected"), CONSISTENCY.items())
def test_consistency_proofs_are_those_of_certificate_transparency(
    sizes: tuple[int, int], expected: tuple[str, ...]
) -> None:
    old, new = sizes
    proof = merkle.consistency_proof(old, new, NODES)
    assert [step.hex() for step in proof] == list(expected)
    assert merkle.verify_consistency(old, new, ROOTS[old], ROOTS[new], proof)


# --- every small tree, against the RFC --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", range(1, 34))
def test_every_proof_of_every_small_tree_is_the_one_of_the_rfc(size: int) -> None:
    d = data(size)
    hashes = [leaf_hash(leaf) for leaf in d]
    nodes = levels(hashes)
    head = mth(d)
    assert merkle.root(size, nodes) == head
    for index in range(size):
        proof = merkle.inclusion_proof(index, size, nodes)
        assert proof == path(index, d)
        assert merkle.verify_inclusion(hashes[index], index, size, proof, head)
    for old in range(1, size + 1):
        proof = merkle.consistency_proof(old, size, nodes)
        assert proof == subproof(old, d, True)
        assert merkle.verify_consistency(old, size, mth(d[:old]), head, proof)


@pytest.mark.parametrize("size", [*range(1, 34), 63, 64, 65, 255, 256])
def test_a_small_tree_has_the_same_root_and_paths(size: int) -> None:
    hashes = [leaf_hash(leaf) for leaf in data(size)]
    nodes, small = levels(hashes), merkle.Small(hashes)
    assert small.root == merkle.root(size, nodes)
    for index in range(size):
        assert list(small.path(index)) == merkle.inclusion_proof(index, size, nodes)


@settings(max_examples=60, deadline=None)
@given(size=st.integers(0, 300))
def test_the_frontier_is_the_right_edge_of_the_tree(size: int) -> None:
    d = data(size)
    nodes = levels([leaf_hash(leaf) for leaf in d])
    frontier = Frontier()
    stored: dict[tuple[int, int], bytes] = {}
    for leaf in d:
        stored |= {(level, index): found for level, index, found in frontier.append(leaf_hash(leaf))}
    assert frontier.root() == mth(d)
    # What append tells to store is every complete subtree, once, and loads the same frontier again.
    assert len(stored) == sum(size >> level for level in range(size.bit_length()))
    assert all(found == nodes(level, index) for (level, index), found in stored.items())
    again = Frontier.load(size, lambda level, index: stored[level, index])
    assert (again.size, again.peaks) == (frontier.size, frontier.peaks)


@settings(max_examples=100, deadline=None)
@given(size=st.integers(2, 200), data_=st.data())
def test_a_wrong_proof_of_inclusion_is_refused(size: int, data_: st.DataObject) -> None:
    hashes = [leaf_hash(leaf) for leaf in data(size)]
    nodes = levels(hashes)
    head = merkle.root(size, nodes)
    index = data_.draw(st.integers(0, size - 1))
    proof = merkle.inclusion_proof(index, size, nodes)
    other = data_.draw(st.integers(0, size - 1).filter(lambda i: i != index))
    assert not merkle.verify_inclusion(hashes[other], index, size, proof, head)
    assert not merkle.verify_inclusion(hashes[index], other, size, proof, head)
    step, bit = data_.draw(st.integers(0, len(proof) - 1)), data_.draw(st.integers(0, 255))
    for wrong in (flipped(proof, step, bit), proof[:-1], [*proof, head], [b"", *proof], [head, *proof]):
        assert not merkle.verify_inclusion(hashes[index], index, size, wrong, head)


@settings(max_examples=100, deadline=None)
@given(new=st.integers(2, 200), data_=st.data())
def test_a_wrong_proof_of_consistency_is_refused(new: int, data_: st.DataObject) -> None:
    nodes = levels([leaf_hash(leaf) for leaf in data(new)])
    old = data_.draw(st.integers(1, new - 1))
    roots = merkle.root(old, nodes), merkle.root(new, nodes)
    proof = merkle.consistency_proof(old, new, nodes)
    assert merkle.verify_consistency(old, new, *roots, proof)
    assert not merkle.verify_consistency(old, new, roots[1], roots[0], proof)
    assert not merkle.verify_consistency(old, new, leaf_hash(b"another"), roots[1], proof)
    step, bit = data_.draw(st.integers(0, len(proof) - 1)), data_.draw(st.integers(0, 255))
    for wrong in (flipped(proof, step, bit), proof[:-1], [*proof, roots[1]], [b"", *proof], []):
        assert not merkle.verify_consistency(old, new, *roots, wrong)


def test_places_that_do_not_exist() -> None:
    with pytest.raises(ValueError, match="no leaf 3"):
        merkle.inclusion_proof(3, 3, NODES)
    with pytest.raises(ValueError, match="no consistency proof"):
        merkle.consistency_proof(0, 3, NODES)
    with pytest.raises(ValueError, match="2 peaks, not 1"):
        Frontier(3, [HASHES[0]])
    assert not merkle.verify_inclusion(HASHES[0], 0, 0, [], ROOTS[0])
    assert not merkle.verify_inclusion(b"", 0, 1, [], b"")


def test_every_tree_begins_with_the_empty_one_and_with_itself() -> None:
    assert merkle.verify_consistency(0, 3, ROOTS[0], ROOTS[3], [])
    assert merkle.verify_consistency(3, 3, ROOTS[3], ROOTS[3], [])
    assert not merkle.verify_consistency(0, 3, ROOTS[1], ROOTS[3], [])
    assert not merkle.verify_consistency(3, 3, ROOTS[3], ROOTS[4], [])
    assert not merkle.verify_consistency(3, 3, ROOTS[3], ROOTS[3], [ROOTS[3]])
    assert not merkle.verify_consistency(4, 3, ROOTS[4], ROOTS[3], [])


def flipped(proof: Sequence[bytes], step: int, bit: int) -> list[bytes]:
    wrong = list(proof)
    whole = bytearray(wrong[step])
    whole[bit // 8] ^= 1 << bit % 8
    wrong[step] = bytes(whole)
    return wrong
