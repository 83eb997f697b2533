"""What a running connector tells: a progress bar on a terminal, else one JSON line for each thing that happened."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from datetime import datetime
from typing import Any, Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from exchange.printable import shown
from exchange.publish import Outcome
from exchange.records import rfc3339

_SECONDS_BETWEEN_LINES = 2.0


class Report(Protocol):
    """Is told what happens; `close` ends whatever is drawn."""

    def batch(self, outcome: Outcome, progress: float | None) -> None:
        """Rows so far of the reading that goes on, and the share of it that is done."""
        ...

    def reading(self, outcome: Outcome, as_of: datetime | None, note: str | None) -> None:
        """A reading has ended: complete if it has an `as_of`."""
        ...

    def note(self, text: str) -> None:
        """Something worth knowing."""
        ...

    def close(self) -> None: ...


class JsonReport:
    """JSON lines. A reading in which nothing happened is told once, not at every poll."""

    def __init__(self, source: str, stream: TextIO) -> None:
        self._source = source
        self._stream = stream
        self._line = time.monotonic()
        self._began = time.monotonic()
        self._first: float | None = None  # when the first batch of the reading that goes on was told
        self._quiet = False
        self._note = ""

    def batch(self, outcome: Outcome, progress: float | None) -> None:
        """See Report."""
        now = time.monotonic()
        self._first = now if self._first is None else self._first  # the time between two polls is no progress
        if now - max(self._line, self._first) >= _SECONDS_BETWEEN_LINES:
            self._tell("progress", outcome, progress=progress)

    def reading(self, outcome: Outcome, as_of: datetime | None, note: str | None) -> None:
        """See Report."""
        quiet = as_of is not None and outcome.read == outcome.unchanged and not outcome.gone
        if not (quiet and self._quiet):
            self._tell("reading", outcome, as_of=rfc3339(as_of) if as_of else None, note=note)
        self._quiet = quiet
        self._first = None
        self._began = time.monotonic()

    def note(self, text: str) -> None:
        """See Report."""
        if text != self._note:
            self._print({"event": "note", "source": self._source, "note": text})
        self._note = text

    def close(self) -> None:
        """See Report."""

    def _tell(self, event: str, outcome: Outcome, **more: Any) -> None:
        self._line = time.monotonic()
        seconds = self._line - self._began
        rate = round(outcome.read / seconds) if seconds > 0 else None
        line = {"event": event, "source": self._source, **asdict(outcome), "rows_per_s": rate, **more}
        self._print({name: value for name, value in line.items() if value is not None})

    def _print(self, line: dict[str, Any]) -> None:
        print(shown(json.dumps(line, ensure_ascii=False)), file=self._stream, flush=True)


class BarReport:
    """A progress bar: rows, rows/s, rejects."""

    def __init__(self, source: str, console: Console) -> None:
        self._source = source
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[rows]:,} rows"),
            _Rate(),
            TextColumn("{task.fields[rejected]:,} rejected", style="yellow"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task(source, total=1.0, rows=0, rejected=0)
        self._progress.start()
        self._quiet = False
        self._note = ""

    def batch(self, outcome: Outcome, progress: float | None) -> None:
        """See Report."""
        self._progress.update(
            self._task,
            total=None if progress is None else 1.0,
            completed=progress or 0.0,
            rows=outcome.read,
            rejected=outcome.rejected,
        )

    def reading(self, outcome: Outcome, as_of: datetime | None, note: str | None) -> None:
        """See Report."""
        quiet = as_of is not None and outcome.read == outcome.unchanged and not outcome.gone
        if not (quiet and self._quiet):
            told = f"as of {rfc3339(as_of)}" if as_of else f"not complete: {note}"
            self._print(f"{self._source}: {outcome}; {told}")
        self._quiet = quiet
        self._progress.reset(self._task, rows=0, rejected=0)

    def note(self, text: str) -> None:
        """See Report."""
        if text != self._note:
            self._print(f"{self._source}: {text}", "dim")
        self._note = text

    def close(self) -> None:
        """See Report."""
        self._progress.stop()

    def _print(self, line: str, style: str = "") -> None:
        """A line beside the bar. What stands in it is data: no markup, and nothing that steers the terminal."""
        self._progress.console.print(Text(shown(line), style))


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Rows per second since the reading began."""
        elapsed = task.elapsed or 0.0
        return Text(f"{task.fields['rows'] / elapsed:,.0f} rows/s" if elapsed > 0.1 else "")


def report_to(stream: TextIO, source: str) -> Report:
    """A bar if the stream is a terminal, else JSON lines."""
    return BarReport(source, Console(file=stream)) if stream.isatty() else JsonReport(source, stream)
