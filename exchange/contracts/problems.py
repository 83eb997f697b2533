"""Why a contract is refused: every reason with its path, so that its author mends them in one go."""

from __future__ import annotations

import json
import math
import re
from typing import Any

MAX_SCHEMA_CHARACTERS = 1 << 20
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class Problems(list[str]):
    """Why something is refused: every reason, each with its path."""

    def add(self, path: str, reason: str) -> None:
        self.append(f"{path}: {reason}" if path else reason)


def read_json(text: str, problems: Problems) -> Any:
    """The JSON value of a schema's text; None, with a problem, for what two readers could read differently."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) != len(pairs):
            names = [name for name, _ in pairs]
            raise ValueError(f"the member {next(name for name in names if names.count(name) > 1)} stands twice")
        return members

    def constant(word: str) -> None:
        raise ValueError(f"{word} is no JSON number")

    def finite(digits: str) -> float:
        number = float(digits)
        if not math.isfinite(number):
            raise ValueError("NaN and infinities are no values")
        return number

    if len(text) > MAX_SCHEMA_CHARACTERS:
        problems.add("", f"more than {MAX_SCHEMA_CHARACTERS} characters")
        return None
    try:
        value = json.loads(text, object_pairs_hook=unique, parse_constant=constant, parse_float=finite)
        if _SURROGATE.search(text):  # half of a pair has no UTF-8 form, and breaks whoever writes it
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        problems.add("", "nested too deep to be read")
    except UnicodeEncodeError:
        problems.add("", "half of a surrogate pair")
    except ValueError as error:
        problems.add("", f"not JSON: {error}")
    else:
        return value
    return None
