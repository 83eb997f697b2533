"""publish, the first verb: a source's rows -> contract check -> topic.

In reading order:

    rows        what a connector hands over (Row, Batch, End), and what becomes of it (Outcome)
    text        one spelling of Chinese text
    encoding    a row -> key, bytes, digest, headers; what a reject may show
    learning    filling a new cursor file from the topic
    entries     the tables of a cursor file, and look-ups in them
    cursor      the cursor file: what was last said of each row
    preparing   what of a batch can be done before the one in front of it is acknowledged
    plan        what one batch will write, send and note as done
    deciding    what to say of each row: repeats, unchanged rows, corrected keys, deletions, rejects
    sending     batches, again until the topic has acknowledged them
    publishing  Publishing and Reading: the verb for one connector; whoever reads `Reading` has read it
    push        the verb for the gateway's HTTP push, and for a reject that is tried again
    status      what a cursor file tells a person
"""

from exchange.publish.cursor import CursorFile
from exchange.publish.publishing import AGAIN, Layout, Publishing, Reading, Tolerance
from exchange.publish.push import BLANK, PUSH, PushAnswer, Reason, Unparsed, publish_push, replay
from exchange.publish.rows import Batch, End, Keeps, Outcome, Row, Unread
from exchange.publish.status import Status, read_status

__all__ = [
    "AGAIN",
    "BLANK",
    "PUSH",
    "Batch",
    "CursorFile",
    "End",
    "Keeps",
    "Layout",
    "Outcome",
    "Publishing",
    "PushAnswer",
    "Reading",
    "Reason",
    "Row",
    "Status",
    "Tolerance",
    "Unparsed",
    "Unread",
    "publish_push",
    "read_status",
    "replay",
]
