"""The shape of records that are no contract's: what a department's own programs write into an inbox."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from exchange.contracts.containers import ArrayNode, MapNode, RecordNode
from exchange.contracts.node import Node
from exchange.contracts.nullable import Nullable
from exchange.contracts.problems import Problems, read_json
from exchange.contracts.schema import read_record
from exchange.contracts.wire import MAX_DATUM_BYTES, Budget
from exchange.errors import ContractRefused, Rejected


@dataclass(frozen=True, slots=True)
class Shape:
    """A record's fields, in the order of its schema, and how a datum of it is read. Nothing is promised of them."""

    fields: tuple[str, ...]
    _node: RecordNode

    @classmethod
    def from_text(cls, text: str) -> Shape:
        """The shape that a schema's text describes.

        What could unfold without bound is not taken (see contracts.schema). Raises ContractRefused: every reason with
        its path, one a line.
        """
        problems = Problems()
        schema = read_json(text, problems)
        node = None if problems else read_record(schema, problems, foreign=True)
        if node is None:
            raise ContractRefused("\n".join(problems))
        return cls(tuple(member.name for member in node.members), node)

    def cells(self, datum: bytes) -> Sequence[Any]:
        """The values of a datum, by field: native ones, and the JSON form of records, arrays and maps.

        The bytes may come from anybody: it is bounded as `Contract.decode` is. Raises Rejected with field and reason.
        """
        if len(datum) > MAX_DATUM_BYTES:
            raise Rejected("the record takes more than 1 MiB")
        value, end = self._node.read(datum, 0, Budget())
        if end != len(datum):
            raise Rejected("bytes are left over behind the record")
        return [
            member.node.show(value[member.name]) if _holds_several(member.node) else value[member.name]
            for member in self._node.members
        ]


def _holds_several(node: Node) -> bool:
    return isinstance(node.inner if isinstance(node, Nullable) else node, RecordNode | ArrayNode | MapNode)
