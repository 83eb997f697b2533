"""When two sources say the same: the form in which values are compared, never the form in which they are shown. Pure.

No difference between texts are: blanks and characters without width, full and half width, composed and decomposed
letters, compatibility ideographs and radicals for the ideograph they look like (NFKC, and Unicode's
EquivalentUnifiedIdeograph for those that NFKC leaves), and the many code points of the middle dot inside names.
Capitals and small letters do differ. Numbers are compared by what they are worth, whatever the type of each source:
`1.10` is `1.1`.
"""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal
from typing import Any

import orjson

_NUMBERS = frozenset({"int", "long", "float", "double", "decimal"})
_NUMBER = re.compile(r"-?\d{1,64}(\.\d{1,64})?", re.ASCII)

# U+2E80 to U+2EF3, each before the ideograph that it stands for: EquivalentUnifiedIdeograph.txt of Unicode.
_RADICALS = (
    "⺁厂⺂乛⺃乚⺄乙⺅亻⺆冂⺇𠘨⺈刀⺉刂⺊卜⺋㔾⺌小⺍小⺎兀⺏尣⺐尢⺑𡯂⺒巳⺓幺⺔彑⺕彐⺖忄⺗心⺘扌"
    "⺙攵⺛旡⺜日⺝月⺞歺⺟母⺠民⺡氵⺢氺⺣灬⺤爫⺥爫⺦丬⺧牛⺨犭⺩王⺪𤴔⺫目⺬示⺭礻⺮𥫗⺯糹⺰纟⺱罓"
    "⺲罒⺳㓁⺴冗⺵𦉫⺶羊⺷𦍌⺸𦍋⺹耂⺺肀⺻聿⺼肉⺽𦥑⺾艹⺿艹⻀艹⻁虎⻂衤⻃覀⻄西⻅见⻆角⻇𧢲⻈讠⻉贝"
    "⻊𧾷⻋车⻌辶⻍辶⻎辶⻏邑⻐钅⻑長⻒镸⻓长⻔门⻕𨸏⻖阝⻗雨⻘青⻙韦⻚页⻛风⻜飞⻝食⻞𩙿⻟飠⻠饣⻡𩠐"
    "⻢马⻣骨⻤鬼⻥鱼⻦鸟⻧卤⻨麦⻩黄⻪黾⻫斉⻬齐⻭歯⻮齿⻯竜⻰龙⻱龜⻲亀⻳龟"
)
# After NFKC: katakana, bullet, hyphenation, operator and full stop forms of the dot between the parts of a name.
_DOTS = dict.fromkeys(map(ord, "\u30fb\u2022\u2027\u2219\u22c5\u2e31\u25cf\u00b7"), "\u00b7")
_FOLDED = {ord(_RADICALS[at]): _RADICALS[at + 1] for at in range(0, len(_RADICALS), 2)} | _DOTS
_NOTHING = re.compile("[\\s\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]+")


def compared(value: Any, type_: str) -> tuple[str, Any]:
    """A JSON value of this type, in a form that is equal where two sources say the same."""
    if type_ in _NUMBERS:
        return _number(value)
    if isinstance(value, str):
        return ("text", text(value))
    return ("json", orjson.dumps(_folded(value), option=orjson.OPT_SORT_KEYS))


def text(value: str) -> str:
    """A text without what is no difference."""
    if value.isascii():
        return "".join(value.split())
    return _NOTHING.sub("", unicodedata.normalize("NFKC", value).translate(_FOLDED))


def _number(value: Any) -> tuple[str, Any]:
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        return ("text", value)  # not what its type promises: then it is what it says
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return ("json", orjson.dumps(value))
    return ("number", Decimal(value) if not isinstance(value, float) else Decimal(repr(value)))


def _folded(value: Any) -> Any:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, list):
        return [_folded(item) for item in value]
    if isinstance(value, dict):
        return {name: _folded(item) for name, item in value.items()}
    return value
