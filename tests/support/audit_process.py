"""A process that appends to an audit log until it is killed, and prints the receipt of each answered append.

    python -m tests.support.audit_process URL WRITER SIGNING_KEY PATIENCE [APPENDS]

It says `open` when it may write, `refused` if the name is taken; with APPENDS it makes so many, 50 at a time, and ends.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from exchange.audit.keys import Signer
from exchange.audit.log import AuditLog
from exchange.audit.slots import Holder
from exchange.audit.store import AuditStore
from exchange.errors import Fenced
from tests.support.audit import entry

PARALLEL = 50


async def main(url: str, writer: str, key: bytes, patience: str, appends: str = "1000000000") -> None:
    log = AuditLog(AuditStore.open(url), Signer.from_pem(key), writer, Holder("test"), patience_s=float(patience))
    try:
        await log.open()
    except Fenced:
        print("refused", flush=True)
        return
    print("open", flush=True)
    left = int(appends)

    async def append() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            receipt = await log.append(entry(), b"body")
            print(receipt.encode(), flush=True)

    await asyncio.gather(*(append() for _ in range(PARALLEL)))
    await log.close()


if __name__ == "__main__":
    url, writer, key, *rest = sys.argv[1:]
    asyncio.run(main(url, writer, Path(key).read_bytes(), *rest))
