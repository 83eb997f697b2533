"""Placeholder until the real module lands."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Subject:
    scheme: str
    identifier: str
