"""Who is calling: the header, the cache of verified tokens, the list of clients."""

from __future__ import annotations

import pytest

from gateway.identity import bearer
from gateway.tokens import TokenRefused

pytestmark = pytest.mark.anyio

HEADERS: dict[str, tuple[list[bytes], str | None]] = {
    "none": ([], None),
    "two": ([b"Bearer a", b"Bearer a"], "invalid_request"),
    "scheme only": ([b"Bearer"], "invalid_request"),
    "scheme and a blank": ([b"Bearer "], "invalid_request"),
    "two blanks": ([b"Bearer  x"], "invalid_request"),
    "tab": ([b"Bearer\tx"], "invalid_request"),
    "two tokens": ([b"Bearer a, Bearer b"], "invalid_request"),
    "two words": ([b"Bearer a b"], "invalid_request"),
    "basic": ([b"Basic YTpi"], "invalid_request"),
    "not ascii": ([b"Bearer \xe4"], "invalid_request"),
    "empty": ([b""], "invalid_request"),
    "line break": ([b"Bearer a\n"], "invalid_request"),
}


@pytest.mark.parametrize(("values", "error"), HEADERS.values(), ids=HEADERS)
async def test_the_authorization_header_is_read_strictly(values: list[bytes], error: str | None) -> None:
    with pytest.raises(TokenRefused) as caught:
        bearer([(b"authorization", value) for value in values])
    wanted = 'Bearer realm="exchange"' + (f', error="{error}"' if error else "")
    assert caught.value.challenge == wanted


@pytest.mark.parametrize("scheme", [b"Bearer", b"bearer", b"BEARER"])
async def test_the_scheme_is_read_in_any_case(scheme: bytes) -> None:
    assert bearer([(b"accept", b"*/*"), (b"authorization", scheme + b" a.b-c_d~e+f/g==")]) == b"a.b-c_d~e+f/g=="
