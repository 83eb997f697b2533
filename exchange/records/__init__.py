"""What travels: Record, Message, Delivery, Facet, Watermark, Reject, and the headers that carry a record's origin.

In reading order:

    forms      how times, numbers and names are written, and JSON that anybody may have written
    record     Origin, Record, Said, Facet
    message    Message, Delivery, Envelope
    watermark  Watermark and its topic
    reject     Reject and its topic
    erasure    Erasure and its topic

What is made for each record that is read is a named tuple: it costs a quarter of a frozen dataclass. A `Record` is made
by `contracts.Contract.check` only: it cannot exist unchecked.
"""

from exchange.records.erasure import ERASE, ERASURES_TOPIC, Erasure
from exchange.records.forms import canonical, micros, moment, rfc3339
from exchange.records.message import Delivery, Envelope, Message, headers_of, heading
from exchange.records.record import Facet, Origin, Record, Said, heard
from exchange.records.reject import REJECT_LINE, REJECT_PAYLOAD, Reject, rejects_topic
from exchange.records.watermark import WATERMARKS_TOPIC, Watermark

CHECKPOINTS_TOPIC = "exchange.audit.checkpoints.v1"

__all__ = [
    "CHECKPOINTS_TOPIC",
    "ERASE",
    "ERASURES_TOPIC",
    "REJECT_LINE",
    "REJECT_PAYLOAD",
    "WATERMARKS_TOPIC",
    "Delivery",
    "Envelope",
    "Erasure",
    "Facet",
    "Message",
    "Origin",
    "Record",
    "Reject",
    "Said",
    "Watermark",
    "canonical",
    "headers_of",
    "heading",
    "heard",
    "micros",
    "moment",
    "rejects_topic",
    "rfc3339",
]
