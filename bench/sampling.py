"""Where the time goes: the main thread is looked at every millisecond, and the time since then counts for one function.

That function is the innermost one of the project; what a library does for it counts as its own, which is what one can
change. A profiler that follows every call would make small functions look three times as expensive.

    python -m bench.sampling FILE MODULE ARGUMENT...

runs a module so, forgets what it saw when SIGUSR1 comes (then the warm-up is over), and writes FILE at the end. There
only processor time counts: a server waits for requests most of the time, and nobody's function is to blame.
"""

from __future__ import annotations

import json
import runpy
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

EVERY = 0.001  # seconds
PROJECT = ("exchange.", "gateway.")
MOST = 30


class Sampler:
    """Seconds of `clock` by place, between `start` and `stop`; in the main thread only, one at a time."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._clock = clock
        self._looked = 0.0

    def start(self) -> None:
        self._looked = self._clock()
        signal.signal(signal.SIGALRM, self._look)
        signal.setitimer(signal.ITIMER_REAL, EVERY, EVERY)

    def stop(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _look(self, _: int, frame: FrameType | None) -> None:
        now = self._clock()
        self.seconds[_place(frame)] += now - self._looked
        self._looked = now


def _place(frame: FrameType | None) -> str:
    """Module and function of the innermost frame of the project; of another's if there is none."""
    outer = "?"
    while frame is not None:
        module = frame.f_globals.get("__name__", "?")
        if module.startswith(PROJECT):
            return f"{module} {frame.f_code.co_qualname}"
        outer = module.partition(".")[0]
        frame = frame.f_back
    return f"({outer})"


def told(title: str, seconds: Mapping[str, float], count: float) -> str:
    """The modules and the functions that take most, in microseconds for each of the `count` things that were done."""
    modules: dict[str, float] = defaultdict(float)
    for place, took in seconds.items():
        modules[place.partition(" ")[0]] += took
    every = sum(seconds.values())
    lines = [f"{title}: {every / count * 1e6:,.1f} us each"]
    for of in (modules, seconds):
        most = sorted(of.items(), key=lambda item: -item[1])[:MOST]
        lines += ["", *(f"{took / count * 1e6:9.2f} us {took / every:6.1%}  {name}" for name, took in most)]
    return "\n".join(lines)


def main() -> None:
    file, module, *arguments = sys.argv[1:]
    sys.argv = [module, *arguments]
    sampler = Sampler(time.thread_time)
    signal.signal(signal.SIGUSR1, lambda *_: sampler.seconds.clear())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # a server may end by the signal that stopped it
    sampler.start()
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        sampler.stop()
        Path(file).write_text(json.dumps(sampler.seconds))


if __name__ == "__main__":
    main()
