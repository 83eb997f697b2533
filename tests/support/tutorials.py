"""Pages that are walked as they stand: files are written, commands run, and what they answer is what the page shows.

A fenced block whose info string has `title="PATH"` is a file. In a block `console` a line that begins with `$ ` is a
command (a backslash at its end continues it); what follows is what it prints, on both streams. In that `…` stands for
anything within a line, and alone on a line for any number of lines. A command that only looks is asked again until it
says what is shown, for half a minute at most: something else may still be on its way.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(r"^```(?P<info>[^\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
LOOKS = re.compile(r"(exchange (connector status|rejects list|audit|policy explain|doctor)|curl [^|]*/(view|readyz))\b")
PATIENCE = 30.0


class Differs(AssertionError):
    """What a command said is not what the page shows."""


@dataclass(frozen=True)
class Step:
    """A file, or a command with what it answers."""

    file: str | None
    text: str  # the file's content, or the command
    shown: str = ""


def steps(page: str) -> Iterator[Step]:
    """What a page does, in its order."""
    for block in BLOCK.finditer(page):
        info, body = block["info"], block["body"]
        titled = re.search(r'title="([^"]+)"', info)
        if titled:
            yield Step(titled[1], body)
        elif info == "console":
            yield from _commands(body)


def matches(shown: str, said: str) -> bool:
    """Whether this is what is shown; blanks at the ends of lines do not count."""
    pattern = "".join(
        r"(?:[^\n]*\n)*?" if line.strip() == "…" else re.escape(line.rstrip()).replace("…", r"[^\n]*") + r"[ \t]*\n"
        for line in shown.splitlines()
    )
    return re.fullmatch(pattern, said if not said or said.endswith("\n") else f"{said}\n") is not None


class Walk:
    """A walk from a folder on, with one shell's variables. `instead`: other words for some of the page's."""

    def __init__(self, folder: Path, instead: Mapping[str, str], environment: Mapping[str, str]) -> None:
        self._state = folder / ".state"
        self._folder = folder
        self._instead = instead
        self._environment = dict(environment)
        self._running: list[subprocess.Popen[bytes]] = []

    def take(self, step: Step) -> None:
        """Raises Differs."""
        if step.file is not None:
            file = Path(self._here()) / step.file
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(step.text, "utf-8")
        elif step.text.endswith("&"):
            line = f"cd {self._here()!r}; exec {self._adapted(step.text[:-1])}"
            self._running.append(subprocess.Popen(["bash", "-c", line], env=self._variables(), start_new_session=True))
        else:
            self._command(step)

    def end(self) -> None:
        """Stop what runs behind."""
        for process in self._running:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)

    def _command(self, step: Step) -> None:
        shown = self._adapted(step.shown)
        deadline = time.monotonic() + (PATIENCE if LOOKS.search(step.text) else 0)
        while True:
            status, said = self._run(step.text)
            if status == 0 and matches(shown, said):
                return
            if time.monotonic() >= deadline:
                raise Differs(f"$ {step.text}\n--- shown\n{shown}\n--- said, with status {status}\n{said}")
            time.sleep(0.5)

    def _run(self, command: str) -> tuple[int, str]:
        after = f"status=$?; pwd > {self._state}.pwd; env -0 > {self._state}.env; exit $status"
        done = subprocess.run(
            ["bash", "-c", f"{self._adapted(command)}\n{after}"], cwd=self._here(), env=self._variables(),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=120,
        )  # fmt: skip
        return done.returncode, done.stdout

    def _adapted(self, text: str) -> str:
        for word, other in self._instead.items():
            text = text.replace(word, other)
        return text

    def _here(self) -> str:
        file = Path(f"{self._state}.pwd")
        return file.read_text().strip() if file.exists() else str(self._folder)

    def _variables(self) -> dict[str, str]:
        file = Path(f"{self._state}.env")
        if not file.exists():
            return self._environment
        return dict(each.split("=", 1) for each in file.read_text().split("\0") if each)


def _commands(body: str) -> Iterator[Step]:
    command: list[str] = []
    shown: list[str] = []
    for line in body.splitlines():
        if line.startswith("$ "):
            if command:
                yield _step(command, shown)
            command, shown = [line[2:]], []
        elif command and command[-1].endswith("\\") and not shown:
            command.append(line)
        elif command and not shown and "\n".join(command).count("'") % 2:
            command.append(line)  # within quotation marks
        else:
            shown.append(line)
    if command:
        yield _step(command, shown)


def _step(command: list[str], shown: list[str]) -> Step:
    return Step(None, "\n".join(command), "".join(f"{line}\n" for line in shown))
