"""What processes write: personal names are dropped, and nothing unexpected is told with its text."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

NUMBER = "110101190001010014"


def written(code: str) -> list[dict[str, object]]:
    """The lines that a process with guarded JSON logs writes."""
    setup = "from exchange import logs; logs.configure('json'); logs.guard()\n"
    done = subprocess.run([sys.executable, "-c", setup + code], capture_output=True, text=True)
    assert NUMBER not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return [json.loads(line) for line in done.stderr.splitlines()]


RAISED = f"int('{NUMBER}x')"


@pytest.mark.parametrize(
    "code",
    [
        f"import threading; t = threading.Thread(target=lambda: {RAISED}); t.start(); t.join()",
        f"import logging\ntry: {RAISED}\nexcept ValueError: logging.getLogger('uvicorn.error').exception('Failed\\n')",
        f"""
import asyncio, gc
async def broken(): {RAISED}
async def main():
    task = asyncio.create_task(broken())
    await asyncio.sleep(0)
    del task
    gc.collect()
asyncio.run(main())""",
    ],
    ids=["thread", "library", "task"],
)
def test_what_is_raised_where_nobody_looks_is_told_without_its_text(code: str) -> None:
    (line,) = written(code)
    assert (line["event"], line["error"], line["level"]) == ("unexpected error", "builtins.ValueError", "error")
    assert line["at"]


def test_what_a_library_puts_into_its_message_stays_out() -> None:
    (line,) = written(f"import logging; logging.getLogger('some.driver').warning('cannot read %s', '{NUMBER}')")
    assert (line["library"], line["said"]) == ("some.driver", "cannot read %s")
    assert written("import logging; logging.getLogger('some.driver').info('a word')") == []
    (line,) = written("import logging; logging.getLogger('exchange.kafka').error('%s is down', 'broker 1')")
    assert line["said"] == "broker 1 is down"


def test_personal_names_are_dropped() -> None:
    (line,) = written(f"import structlog; structlog.get_logger().info('read', citizen_id='{NUMBER}', rows=1)")
    assert (line["citizen_id"], line["rows"]) == ("[dropped]", 1)


def test_a_command_that_breaks_is_told_without_its_text() -> None:
    code = f"""
import sys
from exchange import cli
from exchange.cli import policy
def broken(*_, **__): {RAISED}
policy.load = broken
sys.argv = ["exchange", "policy", "test"]
cli.main()"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 70
    assert "ValueError" in done.stderr
    assert "policy.py" in done.stderr
    assert NUMBER not in done.stderr
