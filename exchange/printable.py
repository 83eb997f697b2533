"""Text that data brought, as a person may see it: what steers a terminal or hides is written as JSON writes it.

A file name, a column's name or a message of a topic can hold an escape sequence that clears the screen, a carriage
return that overwrites what stands there, or a mark that turns the order of the letters around. Everything that a
command prints passes `shown` (cli.options.say and print_json do it); what travels is refused if it is not `plain`.
"""

from __future__ import annotations

import json
import re

# Unicode's categories Cc, Zl and Zp; of Cf what is invisible or changes the order of letters; half surrogate pairs.
# Characters of private use stay: names of people are written with them.
_STEERING = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e0fff]"
)


def plain(text: str) -> bool:
    """Whether `text` shows as it stands, on one line."""
    return _STEERING.search(text) is None


def shown(text: str) -> str:
    """`text` on one line, with `\\u001b` for what would steer the terminal; plain text stays as it is."""
    return _STEERING.sub(lambda found: json.dumps(found[0])[1:-1], text)
