"""Printing: the demo on a terminal with colours and live figures, as plain lines elsewhere, or not at all."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table as Grid
from rich.text import Text

from exchange.cli.demo.arrival import Figures
from exchange.cli.demo.desks import Call
from exchange.cli.demo.steps import Cell, Check, Look, Table, Told

WIDTH = 100
_INDENT = 5
_GAP = 2  # between two columns
_NARROWEST = 8  # columns of a terminal that are left of a column at least
_WRAPPED = 30  # ... of one that wraps
_LOOKS: dict[Look, str] = {
    "plain": "",
    "masked": "yellow",
    "lead": "bold cyan",
    "new": "bold green",
    "gone": "red strike",
    "faint": "dim",
}
_PLAIN_EVERY = 2.0  # seconds between two lines of figures where there is no terminal


class Printing:
    """Prints the demo; `quiet` prints nothing, for --json."""

    def __init__(self, *, quiet: bool) -> None:
        terminal = sys.stdout.isatty()
        self.console = Console(quiet=quiet, highlight=False, width=None if terminal else WIDTH)
        self._quiet = quiet
        if terminal and self.console.width > WIDTH + 20:
            self.console.width = WIDTH + 20

    def headline(self, citizens: int, enterprises: int, folder: str) -> None:
        """What is about to happen."""
        told = Text.assemble(
            ("Exchange", "bold"),
            " on this machine: the departments of 澜汀 (Lanting), a city that does not exist,\n"
            f"publish what they know of {citizens:,} citizens and {enterprises:,} enterprises; "
            "other departments read it merged.\n",
            (f"Everything is in {folder}, made anew each time.", "dim"),
        )
        self.console.print(Panel(told, border_style="cyan", padding=(0, 1)))

    @contextmanager
    def doing(self, text: str) -> Iterator[list[str]]:
        """A line with a spinner while something is done, and a tick with its time when it was; a list takes details."""
        began, details = time.perf_counter(), list[str]()
        if self.console.is_terminal and not self._quiet:
            with self.console.status(f"{text} …", spinner="dots"):
                yield details
        else:
            yield details
        spent = time.perf_counter() - began
        line = Text.assemble((" ✓ ", "green"), text, *((f"  {detail}", "dim") for detail in details))
        line.append(f"  {spent:.1f} s", "dim")
        self.console.print(line)

    @contextmanager
    def arriving(self) -> Iterator[ArrivalBoard]:
        """A board for the figures of the arrival, drawn again in place on a terminal."""
        board = ArrivalBoard(self.console)
        if not self.console.is_terminal or self._quiet:
            yield board
            return
        with Live(console=self.console, refresh_per_second=10, transient=True) as live:
            board.live = live
            yield board
        board.live = None
        self.console.print(board.drawn())

    def step(self, number: int, told: Told) -> None:
        """A step that was told."""
        self.console.print()
        style = "bold white on dark_green" if told.ok else "bold white on red"
        self.console.print(Text.assemble((f" {number:>2} ", style), " ", (told.title, "bold")))
        if told.lead:
            self.console.print(_indented(Text(told.lead, "dim")))
        before: Call | Table | Check | str = ""
        for part in told.parts:
            if isinstance(part, Table) or isinstance(before, Table):
                self.console.print()
            self.console.print(_indented(_shown(part, self.console.width - _INDENT)))
            before = part

    def summary(self, told: Sequence[Told], seconds: float) -> None:
        """Whether the story holds."""
        failed = [one for one in told if not one.ok]
        self.console.print()
        if failed:
            names = ", ".join(one.name for one in failed)
            text, style = f"{len(failed)} of {len(told)} steps do not hold: {names}.", "bold red"
        else:
            text, style = f"All {len(told)} steps hold.", "bold green"
        self.console.print(Rule(Text.assemble((text, style), (f"  {seconds:.0f} seconds", "dim"))))


class ArrivalBoard:
    """The figures of each department while rows come in."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.live: Live | None = None
        self._figures: Sequence[Figures] = ()
        self._line, self._printed = "", float("-inf")

    def update(self, figures: Sequence[Figures]) -> None:
        """New figures."""
        self._figures = figures
        if self.live is not None:
            self.live.update(self.drawn())
            return
        now = time.monotonic()
        line = (
            f"   {sum(each.published for each in figures):,} published, "
            f"{sum(each.rejected for each in figures):,} rejected, "
            f"{sum(each.materialised for each in figures):,} materialised; "
            f"{sum(each.told for each in figures)} of {len(figures)} departments have told everything"
        )
        if line != self._line and (now - self._printed >= _PLAIN_EVERY or all(each.told for each in figures)):
            self._line, self._printed = line, now
            self._console.print(line)

    def drawn(self) -> RenderableType:
        """The board as a table."""
        grid = Grid(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="dim")
        grid.add_column("")
        grid.add_column("department", width=14)
        for title in ("rows in", "published", "rejected", "materialised"):
            grid.add_column(title, justify="right", width=12)
        grid.add_column("")
        for each in self._figures:
            grid.add_row(
                Text(" ✓ ", "green") if each.told else Text(" ⋯ ", "dim"),
                each.department,
                Text(f"{each.rows:,}", "dim"),
                f"{each.published:,}",
                Text(f"{each.rejected:,}", "yellow" if each.rejected else "dim"),
                f"{each.materialised:,}",
                _bar(each),
            )
        return grid


def _bar(figures: Figures) -> ProgressBar:
    """How far a department is. What is unchanged leaves no message, so the rows alone do not tell when all is there."""
    done = figures.rows if figures.told else min(figures.materialised + figures.rejected, figures.rows)
    return ProgressBar(figures.rows or 1, done, 20, complete_style="cyan", finished_style="green")


def _indented(content: RenderableType) -> Padding:
    return Padding(content, (0, 0, 0, _INDENT), expand=False)


def _shown(part: Call | Table | Check | str, width: int) -> RenderableType:
    match part:
        case Call():
            return _call(part)
        case Table():
            return _table(part, width)
        case Check():
            sign = ("✓ ", "green") if part.ok else ("✗ ", "bold red")
            return Text.assemble(sign, (part.text, "" if part.ok else "bold red"))
        case _:
            return Text(part)


def _call(call: Call) -> Text:
    who = " · ".join(text for text in (call.client, *call.sent.values()) if text)
    good = "green" if call.status < 300 else "yellow" if call.status < 500 else "red"
    return Text.assemble(
        (f"{call.method} ", "dim"),
        (call.path, "cyan"),
        ("  as ", "dim"),
        who,
        ("  → ", "dim"),
        (str(call.status), f"bold {good}"),
        (f"  {call.milliseconds:.0f} ms", "dim"),
    )


def _table(table: Table, width: int) -> RenderableType:
    grid = Grid(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="dim")
    widths = _widths(table, width)
    for place, (title, columns) in enumerate(zip(table.columns, widths, strict=True)):
        grid.add_column(
            title.removeprefix(">"),
            justify="right" if title.startswith(">") else "left",
            width=columns,
            no_wrap=not (table.wraps and place == len(widths) - 1),
            overflow="ellipsis",
        )
    for row in table.rows:
        grid.add_row(*(_cell(cell) for cell in row))
    if not table.note:
        return grid
    return Group(grid, Text.assemble(("■ ", _LOOKS["masked"]), (table.note, "dim")))


def _widths(table: Table, width: int) -> list[int]:
    """What each column needs, the widest ones cut until all fit; a Chinese character needs two."""
    titles = [max(map(cell_len, title.removeprefix(">").split("\n"))) for title in table.columns]
    needed = [
        max(title, *(cell_len(str(row[place])) for row in table.rows), 1) if table.rows else title
        for place, title in enumerate(titles)
    ]
    over = sum(needed) + _GAP * (len(needed) - 1) - width
    if table.wraps:
        wrapped = min(max(over, 0), max(needed[-1] - _WRAPPED, 0))
        needed[-1], over = needed[-1] - wrapped, over - wrapped
    while over > 0 and max(needed) > _NARROWEST:
        needed[needed.index(max(needed))] -= 1
        over -= 1
    return needed


def _cell(cell: Cell | str) -> Text:
    return Text(cell) if isinstance(cell, str) else Text(cell.text, _LOOKS[cell.look])
