"""docs/errors, from gateway.problems and gateway.explanations: a page for each kind of problem, and the list."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.explanations import EXPLANATIONS
from gateway.problems import TABLE, Problem, title
from handbook.writing import linked, prose, table

INDEX = "errors/README.md"
_INTRODUCTION = """
What the gateway answers when it does not do what was asked: `application/problem+json` (RFC 9457). `type` is `/errors/`
and the word below; the gateway itself has these pages there. docs/http.md#errors has an example.
"""


def pages() -> Iterator[tuple[str, str]]:
    """Path below docs/, text."""
    rows = [
        (str(problem.status), f"[{problem.slug}]({problem.slug}.md)", title(cls), problem.advice)
        for cls, problem in TABLE.items()
    ]
    yield (
        INDEX,
        f"# Problems\n\n{linked(prose(_INTRODUCTION), INDEX)}\n"
        f"{table(('status', 'problem', 'what it says', 'what to do'), rows)}",
    )
    for cls, problem in TABLE.items():
        yield f"errors/{problem.slug}.md", _page(title(cls), problem)


def _page(heading: str, problem: Problem) -> str:
    path, told = f"errors/{problem.slug}.md", EXPLANATIONS[problem.slug]
    again = ", with `Retry-After`" if problem.retry_after else ""
    steps = "".join(f"- {linked(step, path)}\n" for step in told.steps)
    return (
        f"# {heading}\n\n`{problem.type}`, status {problem.status}{again}\n\n{linked(told.when, path)}\n\n"
        f"## What to do\n\n{problem.advice}\n\n{steps}"
    )
