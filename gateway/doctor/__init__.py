"""`exchange doctor`: the library's checks (exchange.doctor), and what only the gateway knows.

In reading order:

    issuers    each issuer: reached, its documents, its keys, its clock; listed clients whose issuer is not named
    token      one access token: why it is refused, every reason at once
    command    the command line and what it prints
"""

from gateway.doctor.command import app

__all__ = ["app"]
