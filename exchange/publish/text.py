"""One spelling of Chinese text, so that one name is one name in every facet, view and digest.

Three things that look the same on paper are made the same in bytes, before a record is checked:

- composed and decomposed letters, and compatibility ideographs (U+F92C for U+90CE): Unicode normalisation form C
- radicals copied from PDF files (U+2F00 for U+4E00): the ideograph that Unicode names as their equivalent
- the dot inside names of minorities and foreigners (U+2022, U+2027, U+2219, U+22C5, U+30FB, U+FF65), where it stands
  between two Chinese characters: U+00B7, the separation mark of GB 18030

Nothing else is touched: blanks and the width of letters stay as the source has them (a view compares without them).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"
_RADICAL = re.compile("[\u2e80-\u2fdf]")
_DOT = re.compile(f"(?<=[{_HAN}])[\u2022\u2027\u2219\u22c5\u30fb\uff65](?=[{_HAN}])")
_EITHER = re.compile("[\u2022\u2027\u2219\u22c5\u2e80-\u2fdf\u30fb\uff65]")


def normal(text: str) -> str:
    """The one spelling of `text`. Applying it twice changes nothing more."""
    if is_normal(text):
        return text
    text = _RADICAL.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text)
    return _DOT.sub("\u00b7", unicodedata.normalize("NFC", text))


def normal_value(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """A record's value with every text in it in its one spelling; lists and mappings all the way down."""
    texts, nested = [], False
    for part in value.values():
        if type(part) is str:
            texts.append(part)
        elif isinstance(part, list | tuple | dict):
            nested = True
    if not nested and is_normal("".join(texts)):  # one look at all texts: most records need no more
        return value
    return {name: _normal_part(part) for name, part in value.items()}


def _normal_part(value: Any) -> Any:
    if type(value) is str:
        return normal(value)
    if isinstance(value, dict):
        return {name: _normal_part(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_normal_part(inner) for inner in value]
    return value


def is_normal(text: str) -> bool:
    """Whether there is nothing to do; may say no where there is nothing to do either."""
    return text.isascii() or (_EITHER.search(text) is None and unicodedata.is_normalized("NFC", text))
