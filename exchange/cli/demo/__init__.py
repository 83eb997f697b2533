"""`exchange demo`: a city on this machine, from an empty folder to a verified receipt.

In reading order:

    folder    the demo's folder, emptied only if it is the demo's own
    town      settings with free ports, keys, a small city, its policies
    desks     the city's client programs: tokens, views, pushes, over HTTP
    arrival   the first delivery comes in: figures by department, what became of each row
    steps     a step, what it tells and checks, and the runner of a story
    stage     what the steps play on
    accounts  steps: every row accounted for; what was set aside
    readers   steps: who sees what of one citizen and one enterprise; who is refused
    changes   steps: a source changes, a row is deleted
    evidence  steps: a receipt, the log, a tampered copy of it
    story     all steps in order
    printing  on a terminal, as plain lines, or not at all
    trying    what to try while the city stands
    commands  the command line
"""

from exchange.cli.demo.commands import app

__all__ = ["app"]
