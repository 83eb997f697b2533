"""What to say of each row, given what was last said of it: the rules of the cursor file.

Pure but for look-ups in the cursor file: nothing is written and nothing is sent here. A `Plan` is what one batch will
write, send and, once all of it is acknowledged, note as done.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from exchange.clock import Clock
from exchange.errors import Rejected
from exchange.publish.cursor import CursorFile
from exchange.publish.encoding import Encoded, Encoder, Identity, Stamp, digest
from exchange.publish.entries import LEARNED, SET_ASIDE, UNKNOWN, Entry, Told
from exchange.publish.plan import Marks, Plan
from exchange.publish.preparing import Prepared, Preparer, Ready
from exchange.publish.rows import Keeps, Row, Unread
from exchange.records import canonical

_new = tuple.__new__  # a named tuple without the call of its own constructor
SECOND_ROW = "another row of this snapshot has the same key and other values"


class Decider:
    """Decides batch after batch of one reading. `told` and `spared` grow: ids of entries that the reading holds.

    A told entry stands behind a good row, a spared one behind a row that is present all the same: rejected, or marked
    as deleted.
    """

    def __init__(self, keeps: Keeps, cursor: CursorFile, encoder: Encoder, stamp: Stamp, clock: Clock) -> None:
        self.told = Marks()
        self.spared = Marks()
        self._keeps = keeps
        self._cursor = cursor
        self.prepare = Preparer(keeps, encoder, knows_rows=keeps is Keeps.KEYS and not cursor.empty)
        self._encoder = encoder
        self._stamp = stamp
        self._clock = clock
        self._known: dict[str, list[Entry]] = {}
        self._known_rejects: dict[str, Told] = {}
        self._plan = Plan(1)

    def decide(self, prepared: Prepared, default_time: datetime) -> Plan:
        """What to do about these rows. `default_time` is the event time of a row that has none."""
        rows = prepared.rows
        self._plan = plan = Plan(self._cursor.next_sequence)
        plan.outcome.read = len(rows)
        recognised = self._recognised(prepared)
        ready = [
            each or (None if number in recognised else self.prepare.row(rows[number]))
            for number, each in enumerate(prepared.ready)
        ]
        self._look_up([each for each in ready if each is not None], recognised.values())
        known, may_be_new = self._known, self._keeps is not Keeps.ROWS or not self._cursor.learned
        for number, each in enumerate(ready):
            if each is None:
                if self._is_known(recognised[number]):
                    continue
                each = self.prepare.row(rows[number])  # the second row of its key in this batch
            row, place, found = each
            moment = row.event_time or default_time
            if isinstance(found, Encoded):
                if may_be_new and not known.get(place):
                    self._tell_new(row, place, found, moment)
                else:
                    self._tell(row, place, found, moment)
                continue
            whole = row if isinstance(row, Row) else row.read()
            if isinstance(found, Rejected):
                self._reject(whole, place, found)
            else:
                self._delete(whole, place, found, moment)
        return plan

    def holds(self, id_: int) -> bool:
        """Whether a row of the reading stands behind this entry."""
        return id_ in self.told or id_ in self.spared

    def gone(self, entries: Sequence[Entry], moment: datetime) -> Plan:
        """Delete these entries, which the reading does not hold; of those that were deleted, forget that."""
        self._plan = plan = Plan(self._cursor.next_sequence)
        self._known = {}
        for entry in entries:
            if entry.digest is None:
                plan.forget.append(entry)
            else:
                self._release(entry, None, moment)
                plan.outcome.gone += not entry.set_aside
        return plan

    def repeat_deletions(self, moment: datetime) -> Plan:
        """Deletions that may not have reached the topic, under their old numbers."""
        self._plan = plan = Plan(self._cursor.next_sequence)
        for entry in self._cursor.rows.doubtful_deletions():
            self._repeat_deletion(entry, moment)
        return plan

    # -- preparation --

    def _recognised(self, prepared: Prepared) -> dict[int, str]:
        """By number, the places of those rows whose source is the one of the entry there."""
        known = self._cursor.rows.at(list(set(prepared.places.values())))
        return {
            number: place
            for number, place in prepared.places.items()
            if _is_source_of(known.get(place), prepared.rows[number])
        }

    def _is_known(self, place: str) -> bool:
        """Count a recognised row as unchanged; not the second one of its key, whose value must be looked at."""
        (entry,) = self._known[place]
        if entry.id in self.told:
            return False
        self.told.add(entry.id)
        self._plan.outcome.unchanged += 1
        return True

    def _look_up(self, ready: Sequence[Ready], recognised: Iterable[str]) -> None:
        places = {place for _, place, found in ready}
        places.update(recognised)
        if self._keeps is Keeps.ROWS and self._cursor.learned:
            places |= {LEARNED + found.key.decode("ascii") for _, _, found in ready if isinstance(found, Encoded)}
        self._known = self._cursor.rows.at(list(places))
        self._known_rejects = self._cursor.rows.rejects(
            [place for _, place, found in ready if isinstance(found, Rejected)]
        )

    # -- one row --

    def _tell_new(self, row: Row | Unread, place: str, found: Encoded, moment: datetime) -> None:
        """`_tell` of a place of which nothing is known, as it is with nearly all rows of a first reading."""
        plan, id_ = self._plan, self._cursor.new_id()
        key = "" if self._keeps is Keeps.KEYS else found.key.decode("ascii")
        entry = _new(Entry, (place, key, id_, found.digest, plan.number(), found.version, False, row.raw))
        plan.entries[id_] = entry
        self._known[place] = [entry]
        self._publish(entry, found, moment)

    def _tell(self, row: Row | Unread, place: str, found: Encoded, moment: datetime) -> None:
        key = "" if self._keeps is Keeps.KEYS else found.key.decode("ascii")
        entries = self._known.setdefault(place, [])
        own = self._said(place, key)
        if own is None and self._keeps is Keeps.ROWS:
            own = self._claim(place, key)
        if self._keeps is Keeps.KEYS and own is not None and own.id in self.told:
            if own.digest == found.digest:
                self._plan.outcome.unchanged += 1
            else:
                whole = row if isinstance(row, Row) else row.read()
                self._reject(whole, whole.where, Rejected(SECOND_ROW))
            return
        if self._keeps is not Keeps.FLIGHT:
            for entry in list(entries):
                if entry.key != key:
                    self._leave(entry, found.version, moment)
        if own is not None and own.digest == found.digest and not own.doubtful:
            if own.raw != row.raw:  # the same record from another spelling: known by it from now on
                self._write(own, own._replace(raw=row.raw))
            self.told.add(own.id)
            self._plan.outcome.unchanged += 1
            return
        if own is not None and own.digest == found.digest:
            self._plan.settled.append(own)
            entry = own._replace(doubtful=False)
        else:
            id_ = self._cursor.new_id() if own is None else own.id
            entry = Entry(place, key, id_, found.digest, self._plan.number(), found.version, False, row.raw)
            self._plan.entries[id_] = entry
        self._replace(own, entry)
        self._publish(entry, found, moment)

    def _publish(self, entry: Entry, found: Encoded, moment: datetime) -> None:
        plan = self._plan
        self.told.add(entry.id)
        plan.outcome.published += 1
        plan.messages.append(
            self._stamp.message(found.key, found.value, entry.sequence, found.version, found.event_time or moment)
        )

    def _delete(self, row: Row, place: str, whom: Identity | None, moment: datetime) -> None:
        version = self._encoder.version(row.value)
        if self._keeps is Keeps.FLIGHT:
            assert whom is not None  # noqa: S101  _prepare has seen to it
            self._delete_in_flight(place, whom, version, moment)
            return
        before = len(self._plan.messages)
        key = None
        if whom is not None and whom.message_key is not None:
            key = "" if self._keeps is Keeps.KEYS else whom.message_key.decode("ascii")
        if key is not None and self._keeps is Keeps.ROWS:
            self._claim(place, key)
        for entry in list(self._known.get(place, ())):
            self._leave(entry, version, moment, keep=version is not None and entry.key == key)
        if key is not None and version is not None:
            self._outdate(place, key, version, moment)
        if len(self._plan.messages) > before:
            self._plan.outcome.deleted += 1
        else:
            self._plan.outcome.unchanged += 1

    def _outdate(self, place: str, key: str, version: int, moment: datetime) -> None:
        """Say a deletion that has a version also where nothing of ours stands under its key; keep that it was said.

        An older version, which we passed over, another source may have said or may say yet: it must not stand.
        """
        own = self._said(place, key)
        if own is None or own.version is None or own.version < version:
            said = Entry(place, key, self._cursor.new_id() if own is None else own.id, None, 0, version)
            if self._keeps is Keeps.ROWS and self._others(said):
                return
            said = said._replace(sequence=self._plan.number())
            self._write(own, said)
            self._say_deleted(said, moment)
            own = said
        self.spared.add(own.id)

    def _delete_in_flight(self, place: str, whom: Identity, version: int | None, moment: datetime) -> None:
        assert whom.message_key is not None  # noqa: S101  _prepare has seen to it
        key = whom.message_key.decode("ascii")
        own = next((entry for entry in self._known.get(place, ()) if entry.key == key and entry.digest is None), None)
        self._plan.outcome.deleted += 1
        if own is not None:
            self._repeat_deletion(own, moment)
            return
        entry = Entry(place, key, self._cursor.new_id(), None, self._plan.number(), version)
        self._write(None, entry)
        self._say_deleted(entry, moment)

    def _reject(self, row: Row, place: str, rejected: Rejected) -> None:
        plan = self._plan
        plan.outcome.rejected += 1
        own = self._spare(row)
        payload = self._encoder.payload(row.value, row.line)
        content = digest(canonical([rejected.field, rejected.reason, payload]).encode("utf-8"))
        told = self._known_rejects.get(place) or self._cursor.rows.rejects([place]).get(place)
        if told is not None and told.digest == content and told.doubtful:
            plan.settled_rejects.append(place)
        elif told is not None and told.digest == content and not self._told_since(place, told):
            return
        else:
            told = plan.rejects[place] = Told(place, content, plan.number(), self._clock())
            if own is not None:
                self._doubt(own, row, told.sequence)
        self._known_rejects[place] = told._replace(doubtful=False)
        plan.fresh_rejects += 1
        plan.reject_messages.append(self._stamp.reject(row.where, rejected, payload, told.sequence, told.at).message())

    def _told_since(self, place: str, told: Told) -> bool:
        """Whether a good row was told of the place after this reject."""
        return any(entry.sequence > told.sequence for entry in self._known.get(place, ()))

    def _spare(self, row: Row) -> Entry | None:
        """A rejected row is present: what was published of it stays. If only its subject can be read, all of that.

        If its key can be read, the row may be replayed under it: the key is kept, so that it is deleted when the row
        leaves it. Gives the entry under that key.
        """
        whom = None if self._keeps is Keeps.FLIGHT else self._encoder.identity(row.value)
        if whom is None:
            return None
        if whom.message_key is None or row.line is not None:
            if self._keeps is Keeps.KEYS or self._cursor.learned:
                for id_ in self._cursor.rows.under((LEARNED if self._keeps is Keeps.ROWS else "") + whom.subject_key):
                    self.spared.add(id_)
            return None
        message_key = whom.message_key.decode("ascii")
        place, key = (message_key, "") if self._keeps is Keeps.KEYS else (row.place, message_key)
        entry = self._own(place, key)
        if entry is None:
            deleted = self._said(place, key)
            id_ = self._cursor.new_id() if deleted is None else deleted.id
            entry = Entry(place, key, id_, SET_ASIDE, 0, self._encoder.version(row.value))
            self._write(deleted, entry)
        self.spared.add(entry.id)
        return entry

    def _doubt(self, entry: Entry, row: Row, sequence: int) -> None:
        """A reject was told under the number `sequence`; it may be replayed over what stands under the entry's key.

        So what stands there is not known any more: the row is said again once it is good, also if it then is what it
        was before, and a deletion has the reject's version at least. A row of a snapshot that was told already in this
        reading stays as it was told: the reject is another row of its key.
        """
        if self._keeps is Keeps.KEYS and entry.id in self.told:
            return
        versions = [number for number in (self._encoder.version(row.value), entry.version) if number is not None]
        entry = entry._replace(version=max(versions, default=None))
        if not entry.set_aside:
            entry = entry._replace(digest=UNKNOWN, sequence=sequence, raw=None)
        self._write(entry, entry)

    def _said(self, place: str, key: str) -> Entry | None:
        """What was said last under this key for this place, a deletion included, as it stands with this batch."""
        return next((entry for entry in self._known.get(place, ()) if entry.key == key), None)

    def _own(self, place: str, key: str) -> Entry | None:
        """The entry that says something under this key for this place, as it stands with this batch."""
        if place not in self._known:
            self._known.update(self._cursor.rows.at([place]))
        entries = self._known.get(place, ())
        own = next((entry for entry in entries if entry.key == key and entry.digest is not None), None)
        return self._claim(place, key) if own is None and self._keeps is Keeps.ROWS else own

    # -- keys that are left --

    def _leave(self, entry: Entry, version: int | None, moment: datetime, *, keep: bool = False) -> None:
        """The row at this entry's place no longer stands under this entry's key; `keep` that its deletion was said."""
        if entry.digest is None:
            if entry.doubtful:
                self._repeat_deletion(entry, moment, keep=keep)
            return
        self._release(entry, version, moment, keep=keep)

    def _release(self, entry: Entry, version: int | None, moment: datetime, *, keep: bool = False) -> None:
        """Delete what stands under the entry's key, unless another row has said something under it since."""
        others = self._others(entry) if self._keeps is Keeps.ROWS else []
        said_since = not entry.set_aside and any(
            other.sequence > entry.sequence and other.digest != UNKNOWN for other in others
        )
        if not said_since:
            for other in others:  # its value was overwritten by the row that leaves now: it must be said again
                self._write(other, other._replace(digest=UNKNOWN))
                self._plan.again.append(other.place)
        if said_since or (others and entry.set_aside):  # who was set aside may never have stood where others stand
            self._plan.forget.append(entry)
            self._replace(entry, None)
            return
        versions = [number for number in (version, entry.version) if number is not None]
        deletion = entry._replace(
            digest=None, sequence=self._plan.number(), version=max(versions, default=None), doubtful=False
        )
        self._write(entry, deletion)
        if not keep:
            self._plan.forget.append(entry)
        self._say_deleted(deletion, moment)

    def _others(self, entry: Entry) -> list[Entry]:
        """The entries of other places under this entry's key, as they stand with this batch."""
        stored = {other.id: other for other in self._cursor.rows.holders(entry.key) if other.place != entry.place}
        stored.update({e.id: e for e in self._plan.entries.values() if e.key == entry.key and e.place != entry.place})
        changed = self._plan.entries
        gone = {entry.id, *(each.id for each in self._plan.forget)}  # ours may stand as learned in the file still
        current = (changed.get(id_, other) for id_, other in stored.items() if id_ not in gone)
        standing = [other for other in current if other.key == entry.key and other.digest is not None]
        return [other for other in standing if not other.set_aside]

    def _repeat_deletion(self, entry: Entry, moment: datetime, *, keep: bool = False) -> None:
        (self._plan.settled if keep else self._plan.forget).append(entry)
        if self._keeps is Keeps.ROWS:  # who is to be said again was not asked for, if it was not acknowledged
            self._plan.again += [other.place for other in self._others(entry) if other.digest == UNKNOWN]
        self._replace(entry, entry._replace(doubtful=False))
        self._say_deleted(entry, moment)

    def _say_deleted(self, entry: Entry, moment: datetime) -> None:
        self._plan.messages.append(self._stamp.message(entry.message_key, None, entry.sequence, entry.version, moment))

    def _claim(self, place: str, key: str) -> Entry | None:
        """Give a learned entry the place of the row that was found to stand behind it."""
        learned = self._known.pop(LEARNED + key, None)
        if learned is None and self._cursor.learned:
            learned = self._cursor.rows.at([LEARNED + key]).get(LEARNED + key)
        if not learned or learned[0].id in self._plan.entries:
            return None
        self._plan.claimed.append(learned[0])
        entry = learned[0]._replace(place=place)
        self._write(None, entry)
        return entry

    # -- bookkeeping within the batch --

    def _write(self, old: Entry | None, new: Entry) -> None:
        self._plan.entries[new.id] = new
        self._replace(old, new)

    def _replace(self, old: Entry | None, new: Entry | None) -> None:
        """Let later rows of this batch see the entry as it will be."""
        for entry in (old, new):
            if entry is not None:
                present = self._known.setdefault(entry.place, [])
                present[:] = [other for other in present if other.id != entry.id]
        if new is not None:
            self._known[new.place].append(new)


def _is_source_of(entries: Sequence[Entry] | None, row: Row | Unread) -> bool:
    return (
        entries is not None and entries[0].raw == row.raw and entries[0].digest is not None and not entries[0].doubtful
    )
