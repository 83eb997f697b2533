"""A task of the gateway that breaks off is begun again, and the others do not notice."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from gateway.background import Background


@pytest.mark.anyio
async def test_a_task_that_breaks_off_or_ends_is_begun_again() -> None:
    begun = 0
    settled, beside = asyncio.Event(), asyncio.Event()

    async def breaks() -> None:
        nonlocal begun
        begun += 1
        if begun == 1:
            raise ValueError("a value that nobody may see")
        if begun > 2:
            settled.set()
            await asyncio.Event().wait()

    async def goes_on() -> None:
        await settled.wait()
        beside.set()
        await asyncio.Event().wait()

    def counted() -> float:
        return REGISTRY.get_sample_value("exchange_background_breaks_total") or 0.0

    before = counted()
    background = Background([breaks, goes_on], again_s=0.0)
    background.start()
    await asyncio.wait_for(beside.wait(), 5)
    assert (begun, counted() - before) == (3, 2.0)
    await asyncio.wait_for(background.end(), 5)


@pytest.mark.anyio
async def test_what_broke_off_is_told_without_its_text() -> None:
    told = asyncio.Event()

    async def breaks() -> None:
        if told.is_set():
            await asyncio.Event().wait()
        told.set()
        raise ValueError("110101190001010014")

    background = Background([breaks], again_s=0.0)
    with capture_logs() as said:
        background.start()
        await asyncio.wait_for(told.wait(), 5)
        await asyncio.sleep(0.05)
        await background.end()
    assert [line["error"] for line in said] == ["builtins.ValueError"]
    assert "110101190001010014" not in str(said)
