"""What each department of the city holds, in reading order:

registry    civil registry, education, health: who people are
welfare     social security, housing, hotline: what they are granted, own and ask for
money       tax, credit
roads       transport
market      market regulation, construction qualifications
"""

from __future__ import annotations

from exchange.city.datasets import market, money, registry, roads, welfare
from exchange.city.sources import Dataset

CITIZENS: tuple[Dataset, ...] = (*registry.CITIZENS, *welfare.CITIZENS, *money.CITIZENS, *roads.CITIZENS)
ENTERPRISES: tuple[Dataset, ...] = (*welfare.ENTERPRISES, *money.ENTERPRISES, *market.ENTERPRISES)
DATASETS: tuple[Dataset, ...] = CITIZENS + ENTERPRISES
