"""Merkle trees as RFC 6962 (section 2.1) defines them: hashes, roots, proofs and their verification. Pure.

A tree is known by its *nodes*: the hashes of its complete subtrees. Node (level, index) covers the leaves from
`index << level` to `(index + 1) << level`; it never changes once those leaves exist, so it can be stored for good.
From stored nodes every root and every proof of every earlier size follows with O(log n) look-ups, and `Frontier`
appends with O(1) of them. `levels` makes the nodes of a small tree in memory.

Every hash is 32 bytes of SHA-256. Functions that take leaves take leaf hashes, not the leaves' data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()

Nodes = Callable[[int, int], bytes]
"""The stored hash of node (level, index). Only asked for subtrees that are complete."""


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf (RFC 6962, 2.1): SHA-256(0x00 || data)."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node (RFC 6962, 2.1): SHA-256(0x01 || left || right)."""
    return sha256(b"\x01" + left + right).digest()


def levels(leaves: Sequence[bytes]) -> Nodes:
    """The nodes of a tree that fits in memory."""
    rows = [list(leaves)]
    while len(rows[-1]) > 1:
        below = rows[-1]
        rows.append([node_hash(below[i], below[i + 1]) for i in range(0, len(below) - 1, 2)])
    return lambda level, index: rows[level][index]


class Small:
    """A tree of at least one leaf that fits in memory: its root and all its paths in a fraction of the time.

    A node without a sibling goes up a level as it is, which makes the tree of RFC 6962; `root` and `inclusion_proof`
    are the reference.
    """

    __slots__ = ("_rows",)

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self._rows = [leaves]
        while len(row := self._rows[-1]) > 1:
            pairs = zip(row[::2], row[1::2], strict=False)
            above = [sha256(b"\x01" + left + right).digest() for left, right in pairs]
            if len(row) & 1:
                above.append(row[-1])
            self._rows.append(above)

    @property
    def root(self) -> bytes:
        return self._rows[-1][0]

    def path(self, index: int) -> tuple[bytes, ...]:
        """The audit path of a leaf, from the leaf upwards."""
        path = []
        for row in self._rows:
            if (sibling := index ^ 1) < len(row):
                path.append(row[sibling])
            index >>= 1
        return tuple(path)


def root(size: int, nodes: Nodes) -> bytes:
    """The root of the first `size` leaves (MTH of RFC 6962, 2.1)."""
    return _subtree(0, size, nodes) if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, nodes: Nodes) -> list[bytes]:
    """The audit path of leaf `index` in the tree of `size` leaves, from the leaf upwards (RFC 6962, 2.1.1).

    Raises ValueError if there is no such leaf.
    """
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    path, start, end = [], 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_subtree(middle, end, nodes))
            end = middle
        else:
            path.append(_subtree(start, middle, nodes))
            start = middle
    return path[::-1]


def consistency_proof(old: int, new: int, nodes: Nodes) -> list[bytes]:
    """The proof that the tree of `new` leaves begins with the tree of `old` leaves (RFC 6962, 2.1.2).

    Raises ValueError unless 0 < old <= new.
    """
    if not 0 < old <= new:
        raise ValueError(f"no consistency proof leads from {old} leaves to {new}")
    path, start, end, whole = [], 0, new, True
    while end != old:
        middle = start + _split(end - start)
        if old <= middle:
            path.append(_subtree(middle, end, nodes))
            end = middle
        else:
            path.append(_subtree(start, middle, nodes))
            start, whole = middle, False
    # The verifier knows the old root already, so it is in the proof only where it is not a subtree of the new tree.
    return ([] if whole else [_subtree(start, end, nodes)]) + path[::-1]


def root_from_path(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """The root that an audit path leads to, None where the path does not fit the place (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size or not _hashes(leaf, *path):
        return None
    place, last, found = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            return None
        if place & 1 or place == last:
            found = node_hash(sibling, found)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        place, last = place >> 1, last >> 1
    return found if last == 0 else None


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], expected: bytes) -> bool:
    """Whether the path proves that `leaf` stands at `index` of the tree of `size` leaves with this root."""
    return root_from_path(leaf, index, size, path) == expected


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, path: Sequence[bytes]) -> bool:
    """Whether the proof shows that the tree (new, new_root) begins with the tree (old, old_root) (RFC 9162, 2.1.4.2).

    Every tree begins with the empty one, and with itself; both need no proof and accept no other.
    """
    if not _hashes(old_root, new_root, *path) or not 0 <= old <= new:
        return False
    if old in (0, new):
        return not path and (old_root == new_root if old == new else old_root == EMPTY_ROOT)
    steps = list(path)
    if old & (old - 1) == 0:
        steps.insert(0, old_root)
    if not steps:
        return False
    place, last = old - 1, new - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    found_old = found_new = steps[0]
    for step in steps[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            found_old, found_new = node_hash(step, found_old), node_hash(step, found_new)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found_new = node_hash(found_new, step)
        place, last = place >> 1, last >> 1
    return last == 0 and found_old == old_root and found_new == new_root


class Frontier:
    """The right edge of a tree: enough to append and to tell the root, whatever the size. At most 64 hashes.

    `peaks` are the roots of the complete subtrees that make up the tree, the largest first: one for each bit that is
    set in `size`.
    """

    __slots__ = ("peaks", "size")

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        if len(peaks) != size.bit_count():
            raise ValueError(f"a tree of {size} leaves has {size.bit_count()} peaks, not {len(peaks)}")
        self.size = size
        self.peaks = list(peaks)

    @classmethod
    def load(cls, size: int, nodes: Nodes) -> Frontier:
        """The frontier of a stored tree."""
        return cls(size, [nodes(level, index) for level, index in peaks(size)])

    def append(self, leaf: bytes) -> list[tuple[int, int, bytes]]:
        """Add a leaf hash; return the nodes that became complete as (level, index, hash), the leaf's first."""
        level, index, found = 0, self.size, leaf
        complete = [(level, index, found)]
        while index & 1:
            level, index, found = level + 1, index >> 1, node_hash(self.peaks.pop(), found)
            complete.append((level, index, found))
        self.peaks.append(found)
        self.size += 1
        return complete

    def root(self) -> bytes:
        """The root of the tree as it stands."""
        if not self.peaks:
            return EMPTY_ROOT
        found = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            found = node_hash(peak, found)
        return found


def peaks(size: int) -> Iterator[tuple[int, int]]:
    """The places (level, index) of the complete subtrees that make up a tree of `size` leaves, the largest first."""
    start = 0
    for level in range(size.bit_length() - 1, -1, -1):
        if size >> level & 1:
            yield level, start >> level
            start += 1 << level


def _split(size: int) -> int:
    """The largest power of two smaller than `size` (k in RFC 6962, 2.1)."""
    return 1 << (size - 1).bit_length() - 1


def _subtree(start: int, end: int, nodes: Nodes) -> bytes:
    """The hash of the leaves from `start` to `end`, which the splits of RFC 6962 have made a subtree."""
    size = end - start
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return nodes(level, start >> level)
    middle = start + _split(size)
    return node_hash(_subtree(start, middle, nodes), _subtree(middle, end, nodes))


def _hashes(*values: bytes) -> bool:
    return all(len(value) == HASH_BYTES for value in values)
