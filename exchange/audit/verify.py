"""verify_log: whether the log is the one that was written. find: whether a receipt's entry is in it.

Two walks over one snapshot, in constant memory, over the bytes as they are stored:

    tree     every leaf: the group it stands for, the stored nodes, and the root at each checkpoint: those that left
             the store (from the topic) and the store's own copies
    lines    every writer's groups and entries: digests, signatures, numbers, the chain of groups

What is found is named by writer and number. An entry whose leaf hash was changed along with it can only be narrowed
down to its group, because a group has one signature.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import sqlalchemy as sa

from exchange import merkle
from exchange.audit import entries as hashing
from exchange.audit.checkpoints import Checkpoint, open_checkpoint
from exchange.audit.groups import Group, group_hash, open_group
from exchange.audit.keys import PublicKeys
from exchange.audit.receipts import Receipt, verify_receipt
from exchange.audit.store import AuditStore, StoredEntry, StoredGroup, StoredLeaf
from exchange.errors import AuditBroken, StoreRefused

MAX_FINDINGS = 100


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it was written. `first` and `last` are numbers of the writer's entries."""

    what: str
    writer: str | None = None
    first: int | None = None
    last: int | None = None

    def __str__(self) -> str:
        if self.writer is None:
            return self.what
        place = (
            f"{self.writer} {self.first}" if self.first == self.last else f"{self.writer} {self.first} to {self.last}"
        )
        return f"{place}: {self.what}"


@dataclass(slots=True)
class Report:
    """What was verified, and what was found. True if nothing was found; the first 100 findings are kept."""

    entries: int = 0
    groups: int = 0
    leaves: int = 0
    checkpoints: int = 0
    uncovered: int = 0  # entries after the newest checkpoint that left the store: not proved against truncation yet
    younger: dict[str, tuple[int, int]] = field(default_factory=dict)  # these, by writer: first and last number
    writers: dict[str, int] = field(default_factory=dict)  # each with its last number
    findings: list[Finding] = field(default_factory=list)
    found: int = 0

    def __bool__(self) -> bool:
        return self.found == 0

    def add(self, what: str, writer: str | None = None, first: int | None = None, last: int | None = None) -> None:
        self.found += 1
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(what, writer, first, first if last is None else last))


def verify_log(store: AuditStore, published: Iterable[bytes] | None, keys: PublicKeys, origin: str) -> Report:
    """Verify a whole log against the checkpoints that left it, as they came from the topic, in its order.

    A log with entries of which no checkpoint has left is a finding, and so is a checkpoint that left and is in the
    topic no more. `None`: the log in itself only; that its end was cut off, or that all of it was made anew by somebody
    who has the signing key, goes unnoticed then. `keys` are all public keys that have signed this log. Safe while the
    log is being written. Raises AuditUnavailable if the store cannot be read; everything else is a finding.
    """
    report = Report()
    try:
        with store.reading() as connection:
            left = store.newest_published(connection)  # first: whatever the topic shows after it has this one
            covered = _Tree(store, connection, keys, origin, report).walk(published or ())
            _Lines(store, connection, keys, report).walk(covered)
        if published is not None:
            _compared(report, covered, left)
    except AuditBroken as broken:
        report.add(broken.detail)
    except (StoreRefused, TypeError, ValueError, AttributeError) as error:  # text that is none, a number that is text
        report.add(f"a row holds what no writer can have written ({type(error).__name__})")
    return report


def _compared(report: Report, covered: int, left: int) -> None:
    """Whether the topic has what left the store: `left` groups by the store's own word."""
    if covered == 0 and report.entries:
        report.add("no checkpoint of this log is in the topic: a cut-off tail or a rewritten log would go unnoticed")
    elif covered < left and not report.found:  # otherwise the walk has said why it came no further
        report.add(f"the topic ends with a checkpoint of {covered} groups, but one of {left} left: the topic was cut")


def find(store: AuditStore, receipt: Receipt, body: bytes, keys: PublicKeys) -> StoredEntry:
    """The stored entry that a receipt proves. Raises ReceiptInvalid if the receipt is no proof, AuditUnavailable;

    AuditBroken if the receipt is genuine and the log does not hold what it proves.
    """
    group = verify_receipt(receipt, body, keys)
    place = f"{receipt.writer} {receipt.number}"
    with store.reading() as connection:
        entry = store.entry(connection, receipt.writer, receipt.number)
        stored = store.group_of(connection, receipt.writer, receipt.number)
    if entry is None:
        raise AuditBroken(f"{place}: the entry of a genuine receipt is missing")
    if hashing.entry_hash(entry.entry) != receipt.entry:
        raise AuditBroken(f"{place}: another entry stands where a genuine receipt has its own")
    if hashing.leaf(receipt.entry, entry.answer) != receipt.leaf(body):
        raise AuditBroken(f"{place}: another answer stands where a genuine receipt has its own")
    if stored is None or stored.token != receipt.group or stored.first != group.first:
        raise AuditBroken(f"{place}: the group of a genuine receipt is missing; the line has been forked")
    return entry


class _Lines:
    """The walk over every writer's line."""

    def __init__(self, store: AuditStore, connection: sa.Connection, keys: PublicKeys, report: Report) -> None:
        self._keys = keys
        self._report = report
        self._groups = store.walk_groups(connection)
        self._entries = store.walk_entries(connection)
        self._entry = next(self._entries, None)

    def walk(self, covered: int) -> None:
        """`covered` is how many leaves of the tree the newest checkpoint that left the store has."""
        writer, number, previous = "", 0, None
        for stored in self._groups:
            if stored.writer != writer:
                writer, number, previous = stored.writer, 0, None
            self._report.groups += 1
            group = self._signed(stored)
            if stored.first > number + 1:
                self._report.add("the group is missing", writer, number + 1, stored.first - 1)
            elif stored.first <= number:
                self._report.add("groups overlap: the line is forked", writer, stored.first, stored.last)
            if group is not None and group.previous != previous:
                self._report.add("the group does not follow the one before it", writer, stored.first, stored.last)
            self._members(stored, group)
            number, previous = stored.last, group_hash(stored.token)
            self._report.writers[writer] = number
            if stored.position is None or stored.position >= covered:
                self._report.uncovered += stored.last - stored.first + 1
                first, _ = self._report.younger.get(writer, (stored.first, 0))
                self._report.younger[writer] = first, stored.last
        while self._entry is not None:
            self._report.add("an entry that no group has signed", self._entry.writer, self._entry.number)
            self._next()

    def _signed(self, stored: StoredGroup) -> Group | None:
        """The group, if its signature and its row agree."""
        try:
            group = open_group(stored.token, self._keys)
        except AuditBroken as broken:
            self._report.add(broken.detail, stored.writer, stored.first, stored.last)
            return None
        if (group.writer, group.first, group.last) != (stored.writer, stored.first, stored.last):
            self._report.add("the group signs other numbers", stored.writer, stored.first, stored.last)
            return None
        return group

    def _members(self, stored: StoredGroup, group: Group | None) -> None:
        """The entries of one group, each for itself and all against the root."""
        leaves, whole, expected = [], True, stored.first
        while self._entry is not None and (self._entry.writer, self._entry.number) <= (stored.writer, stored.last):
            entry = self._entry
            if (entry.writer, entry.number) < (stored.writer, stored.first):
                self._report.add("an entry that no group has signed", entry.writer, entry.number)
            else:
                if entry.number > expected:
                    self._report.add("missing", entry.writer, expected, entry.number - 1)
                    whole = False
                expected = entry.number + 1
                leaf = hashing.leaf(hashing.entry_hash(entry.entry), entry.answer)
                if leaf != entry.leaf:
                    self._report.add("the entry was changed", entry.writer, entry.number)
                    whole = False
                if group is not None:
                    leaves.append(leaf)
            self._next()
        if expected <= stored.last:
            self._report.add("missing", stored.writer, expected, stored.last)
            whole = False
        if group is not None and whole and merkle.root(len(leaves), merkle.levels(leaves)) != group.root:
            self._report.add("the entries are not those that were signed", stored.writer, stored.first, stored.last)

    def _next(self) -> None:
        self._report.entries += 1
        self._entry = next(self._entries, None)


class _Tree:
    """The walk over the tree of all groups, and the checkpoints against it."""

    def __init__(
        self, store: AuditStore, connection: sa.Connection, keys: PublicKeys, origin: str, report: Report
    ) -> None:
        self._store = store
        self._connection = connection
        self._keys = keys
        self._origin = origin
        self._report = report
        self._frontier = merkle.Frontier()
        self._nodes: dict[int, Iterator[tuple[int, bytes]] | None] = {}
        self._sealed: dict[str, int] = {}
        self._since: tuple[str, int, int] | None = None  # the first group after the last checkpoint that held

    def walk(self, published: Iterable[bytes]) -> int:
        """The size of the newest checkpoint that left the store and holds."""
        left = self._checkpoints(published, "that left the store")
        own = self._checkpoints(self._own(), "in the store")
        waiting, own_waiting = next(left, None), next(own, None)
        covered = 0
        for leaf in self._store.walk_leaves(self._connection):
            if not self._leaf(leaf):
                return covered
            while waiting is not None and waiting.size == self._frontier.size:
                if self._holds(waiting, self._frontier.root()):
                    covered = waiting.size
                waiting = next(left, None)
            while own_waiting is not None and own_waiting.size == self._frontier.size:
                self._holds(own_waiting, self._frontier.root())
                own_waiting = next(own, None)
        for ahead in (waiting, *left):
            if ahead is not None and self._reached(ahead):
                covered = ahead.size
        for ahead in (own_waiting, *own):
            if ahead is not None:
                self._reached(ahead)
        self._extra_nodes()
        return covered

    def _own(self) -> Iterator[bytes]:
        for stored in self._store.walk_checkpoints(self._connection):
            if stored.note.split(b"\n")[1:2] != [str(stored.size).encode()]:
                self._report.add(f"the row of a checkpoint says {stored.size} groups, which it does not sign")
            yield stored.note

    def _leaf(self, leaf: StoredLeaf) -> bool:
        """Append a leaf; false if there is nothing to go on with."""
        if leaf.position != self._frontier.size:
            self._report.add(f"leaf {self._frontier.size} of the tree is missing; then", leaf.writer, leaf.last)
            return False
        if leaf.token is None or leaf.first is None:
            self._report.add("the group of a leaf is missing", leaf.writer, leaf.last)
            return False
        if leaf.first != self._sealed.get(leaf.writer, 0) + 1:
            self._report.add("the tree has this group out of turn", leaf.writer, leaf.first, leaf.last)
        self._sealed[leaf.writer] = leaf.last
        self._since = self._since or (leaf.writer, leaf.first, leaf.last)
        self._stored(self._frontier.append(merkle.leaf_hash(group_hash(leaf.token))), leaf)
        self._report.leaves = self._frontier.size
        return True

    def _checkpoints(self, notes: Iterable[bytes], which: str) -> Iterator[Checkpoint]:
        """Those that are ahead of the walk; one that is behind is compared with the tree as it was then."""
        for note in notes:
            self._report.checkpoints += 1
            try:
                checkpoint = open_checkpoint(note, self._origin, self._keys)
            except AuditBroken as broken:
                self._report.add(f"{broken.detail} (checkpoint {which})")
                continue
            if checkpoint.size > self._frontier.size:
                yield checkpoint
            else:  # sent twice, or the tree went back: what it was at that size must be what was signed
                self._holds(checkpoint, self._root_at(checkpoint.size, self._connection))

    def _root_at(self, size: int, connection: sa.Connection) -> bytes | None:
        try:
            return merkle.root(size, self._store.nodes(connection, size))
        except AuditBroken:
            return None

    def _reached(self, checkpoint: Checkpoint) -> bool:
        """Whether a checkpoint beyond our snapshot is of the tree that has grown out of it meanwhile."""
        size = self._frontier.size
        with self._store.reading() as later:
            grown = self._store.size(later) >= checkpoint.size
            holds = grown and self._goes_on(checkpoint, self._store.nodes(later))
        if not holds:
            self._report.add(f"the log ends at {size} groups, but {checkpoint.size} were signed: it was cut")
        return holds

    def _goes_on(self, checkpoint: Checkpoint, nodes: merkle.Nodes) -> bool:
        """Whether the checkpoint's tree begins with the one that we have walked."""
        size, root = self._frontier.size, self._frontier.root()
        try:
            if size == 0:  # every tree begins with the empty one
                return merkle.root(checkpoint.size, nodes) == checkpoint.root
            proof = merkle.consistency_proof(size, checkpoint.size, nodes)
        except AuditBroken:
            return False
        return merkle.verify_consistency(size, checkpoint.size, root, checkpoint.root, proof)

    def _holds(self, checkpoint: Checkpoint, root: bytes | None) -> bool:
        """Whether the tree was what the checkpoint says."""
        if checkpoint.root != root:
            writer, first, last = self._since or (None, None, None)
            what = f"the tree of {checkpoint.size} groups is not the one that was signed; the first group in question"
            self._report.add(what, writer, first, last)
            return False
        if checkpoint.size == self._frontier.size:
            self._since = None
        return True

    def _stored(self, complete: list[tuple[int, int, bytes]], leaf: StoredLeaf) -> None:
        """The stored nodes against those that the leaves give."""
        for level, index, computed in complete:
            stream = self._nodes.setdefault(level, self._store.walk_nodes(self._connection, level))
            found = next(stream, None) if stream is not None else None
            if stream is None or found == (index, computed):
                continue
            what = f"node {level}/{index} of the tree was changed or is missing"
            self._report.add(what, leaf.writer, leaf.first, leaf.last)
            if found is None or found[0] != index:
                self._nodes[level] = None  # nothing on this level can be placed any more

    def _extra_nodes(self) -> None:
        for level, stream in self._nodes.items():
            if stream is not None and next(stream, None) is not None:
                self._report.add(f"level {level} of the tree has nodes that no leaf gives")
        for level in self._store.outer_levels(self._connection):
            if level not in self._nodes:  # the walk has been on every level that the tree has
                self._report.add(f"level {level} of the tree has nodes that no leaf gives")
