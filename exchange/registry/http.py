"""The registry over HTTP, in the form of Confluent's REST interface.

The gateway's three calls are enough, and so is any registry of that form. Only an answer in that form counts: a 404
that some proxy gives for a wrong address would otherwise turn every record into a reject.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import httpx2

from exchange.errors import ContractRefused, Incompatible, RegistryUnavailable, UnknownSchema
from exchange.registry.protocol import Registered

MEDIA = "application/vnd.schemaregistry.v1+json"
TIMEOUT = httpx2.Timeout(10.0, connect=3.0)  # seconds for each step of a call
CACHED = 1_000  # ids that are remembered; an id never changes its meaning

# Confluent's error codes.
SUBJECT_NOT_FOUND, VERSION_NOT_FOUND, SCHEMA_NOT_FOUND = 40401, 40402, 40403
_UNKNOWN = {SUBJECT_NOT_FOUND, VERSION_NOT_FOUND, SCHEMA_NOT_FOUND}


class HttpRegistry:
    """See Registry. `token` gives the bearer token of a call, "" for none. May be used by several threads."""

    def __init__(
        self, base_url: str, token: Callable[[], str], *, transport: httpx2.BaseTransport | None = None
    ) -> None:
        self._client = httpx2.Client(base_url=base_url, timeout=TIMEOUT, transport=transport)
        self._token = token
        self._texts: dict[int, str] = {}

    def register(self, subject: str, text: str) -> int:
        """See Registry."""
        answer = self._call("POST", f"/subjects/{quote(subject, safe='')}/versions", _form(text))
        if answer is None:
            raise RegistryUnavailable("it takes no schemas at this address")
        return _whole(answer, "id")

    def lookup(self, subject: str, text: str) -> int | None:
        """See Registry."""
        answer = self._call("POST", f"/subjects/{quote(subject, safe='')}", _form(text))
        return None if answer is None else _whole(answer, "id")

    def schema(self, schema_id: int) -> str:
        """See Registry."""
        known = self._texts.get(schema_id)
        if known is not None:
            return known
        answer = self._call("GET", f"/schemas/ids/{schema_id}")
        if answer is None:
            raise UnknownSchema(str(schema_id))
        text = _text(answer, "schema")
        if len(self._texts) >= CACHED:
            self._texts.clear()
        self._texts[schema_id] = text
        return text

    def latest(self, subject: str) -> Registered | None:
        """See Registry."""
        answer = self._call("GET", f"/subjects/{quote(subject, safe='')}/versions/latest")
        if answer is None:
            return None
        return Registered(_whole(answer, "id"), _whole(answer, "version"), _text(answer, "schema"))

    def close(self) -> None:
        """Release the connections."""
        self._client.close()

    def _call(self, method: str, path: str, form: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        """The answer's object, None if there is no such thing.

        Raises Incompatible, ContractRefused; RegistryUnavailable for everything else, with the status alone: what a
        stranger answers is not ours to repeat.
        """
        token = self._token()
        headers = {"Accept": f"{MEDIA}, application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        try:
            response = self._client.request(method, path, json=form, headers=headers)
            answer = response.json()
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise RegistryUnavailable(f"{self._client.base_url}: {type(error).__name__}") from None
        except ValueError:
            answer = None
        if isinstance(answer, dict):
            if response.status_code == 200:
                return answer
            if response.status_code == 404 and answer.get("error_code") in _UNKNOWN:
                return None
            if response.status_code == 409:
                raise Incompatible(_message(answer))
            if response.status_code == 422:
                raise ContractRefused(_message(answer))
        raise RegistryUnavailable(f"{self._client.base_url} answered with status {response.status_code}")


def _form(text: str) -> dict[str, str]:
    return {"schema": text, "schemaType": "AVRO"}


def _message(answer: Mapping[str, Any]) -> str:
    return str(answer.get("message", ""))[:2_000]


def _whole(answer: Mapping[str, Any], name: str) -> int:
    value = answer.get(name)
    if type(value) is not int:
        raise RegistryUnavailable(f"its answer has no whole number `{name}`")
    return value


def _text(answer: Mapping[str, Any], name: str) -> str:
    value = answer.get(name)
    if not isinstance(value, str):
        raise RegistryUnavailable(f"its answer has no text `{name}`")
    return value
