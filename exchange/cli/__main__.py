"""`python -m exchange.cli` is the `exchange` command; `exchange up` starts its parts this way."""

from exchange.cli import main

main()
