"""What of a batch needs no look into the cursor file: its rows are converted, checked, encoded.

So it can be done while the batch in front is still on its way to the topic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from exchange.errors import Rejected
from exchange.publish.encoding import Encoded, Encoder, Identity
from exchange.publish.rows import Keeps, Row, Unread

# A row, its place in the cursor file, and what it holds: a record, a reason, or whom it deletes.
Ready = tuple[Row | Unread, str, Encoded | Rejected | Identity | None]


class Prepared(NamedTuple):
    """A batch before anything is decided. `places` are those of rows that may be known by their source, by number.

    `ready` has None for these.
    """

    rows: Sequence[Row | Unread]
    places: Mapping[int, str]
    ready: Sequence[Ready | None]


class Preparer:
    """Prepares the batches of one reading; `knows_rows` of an earlier one."""

    def __init__(self, keeps: Keeps, encoder: Encoder, *, knows_rows: bool) -> None:
        self._keeps = keeps
        self._encoder = encoder
        self._knows_rows = knows_rows

    def batch(self, rows: Sequence[Row | Unread]) -> Prepared:
        """A batch; what may be known by its source is left as it is."""
        places = self._places(rows) if self._knows_rows else {}
        make = self.row
        return Prepared(rows, places, [None if at in places else make(row) for at, row in enumerate(rows)])

    def row(self, row: Row | Unread) -> Ready:
        """One row."""
        found: Encoded | Rejected | Identity | None
        if not isinstance(row, Row):
            try:  # nearly all are good, and then nobody asks where they stood
                found = self._encoder.encode(row.value())
            except Rejected:
                row = row.read()
            else:
                return row, found.key.decode("ascii"), found
        if row.rejected is not None:
            found = row.rejected
        elif row.deleted:
            found = self._encoder.identity(row.value)
            if self._keeps is not Keeps.ROWS and (found is None or found.message_key is None):
                found = Rejected("a deletion whose subject or record key cannot be read")
        else:
            try:
                found = self._encoder.encode(row.value)
            except Rejected as rejected:
                found = rejected.kept()
        if self._keeps is not Keeps.KEYS:
            return row, row.place, found
        if isinstance(found, Encoded):
            return row, found.key.decode("ascii"), found
        if isinstance(found, Identity) and found.message_key is not None:
            return row, found.message_key.decode("ascii"), found
        return row, row.where, found

    def _places(self, rows: Sequence[Row | Unread]) -> dict[int, str]:
        """By number, the places of those unread rows whose key can be read."""
        places: dict[int, str] = {}
        for number, row in enumerate(rows):
            if not isinstance(row, Row):
                whom = self._encoder.identity(row.keys())
                if whom is not None and whom.message_key is not None:
                    places[number] = whom.message_key.decode("ascii")
        return places
