"""The reference city: what the departments of 澜汀 (Lanting), a city that does not exist, really have, dirt and all.

In reading order:

    draws      reproducible chance: every record follows from the seed and its name alone
    words      what people, streets, firms and offices are called
    world      citizens and enterprises, their identifiers and addresses
    life       what happens to a row over the days, and what is wrong with it
    sources    how an office keeps a dataset: files, a table, lines to push; its columns
    datasets   the offices' holdings, department by department
    canaries   a city in which every value is unique and tells where it comes from
    truth      what was written, and what the exchange must make of it
    offices    writing a day: what all kinds share; then files, tables, lines
    instances  the connectors' instance files for what was written
    days       a city, and one more day of it
    story      what the demo changes while everything runs
    commands   the command line
"""

from exchange.city.days import advance, generate
from exchange.city.instances import pushes

__all__ = ["advance", "generate", "pushes"]
