"""The clock is passed in, so that tests decide what time it is.

`Clock` gives an aware UTC datetime; what orders records never comes from it (see store.order.succeed).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def system_clock() -> datetime:
    """The present time of this machine, in UTC."""
    return datetime.now(UTC)
