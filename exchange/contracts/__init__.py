"""Contracts: what a department promises about one dataset, loaded from an Avro schema with an `exchange` property.

In reading order:

    wire           limits, variable-length integers, the framing around a datum
    node           what every type can do; the one mapping between native values and JSON
    scalars, logical, nullable, containers   one class per Avro type, with all the rules of that type
    problems       why a contract is refused, every reason with its path
    schema         reads the types; terms reads the `exchange` property
    compatibility  what a newer version breaks
    avro           any Avro schema, contract or not, read with bounds; resolution: which reads what another wrote
    compiled       the fast way from a datum to JSON: code made for one schema, with the nodes as its reference
    packing        the fast way from native values to a datum, with the nodes and fastavro as its reference
    contract       Contract: check, encode, decode, unpack, from_json, to_json, breaks
    shape          what a department's own programs write, which is no contract: read, bounded, and no more
    catalogue      contracts as files: load, load_catalogue

Values that `check` has passed go to fastavro to be written. Bytes are read by our own nodes: a datum can come from
anybody, and fastavro reads an enum or union index of -1 as the last one, takes bytes left over, trusts counts and
lengths, and has no limit.
"""

from exchange.contracts.catalogue import Catalogue, load, load_catalogue
from exchange.contracts.compiled import Unpack
from exchange.contracts.contract import Contract, Field
from exchange.contracts.packing import Packed
from exchange.contracts.shape import Shape
from exchange.contracts.terms import Sharing
from exchange.contracts.wire import FRAME_BYTES, MAX_VALUE_BYTES, frame, unframe

__all__ = [
    "FRAME_BYTES",
    "MAX_VALUE_BYTES",
    "Catalogue",
    "Contract",
    "Field",
    "Packed",
    "Shape",
    "Sharing",
    "Unpack",
    "frame",
    "load",
    "load_catalogue",
    "unframe",
]
