"""Requests drawn at random: sound ones of every route, spoilt in a few places, full of what must not come back.

`Fuzz.draw` gives a request as the bytes that are sent, and `Asked`, which says the most that its answer may rest on:
whose sound tokens, which registered purposes and whose numbers stand in it. The gateway's own reading is not used.
"""

from __future__ import annotations

import json
import random
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

VIEWS = {"citizen": "/v1/citizens/view", "enterprise": "/v1/enterprises/view"}
PAGES = (
    "/v1/contracts", "/docs", "/openapi.json", "/healthz", "/readyz", "/.well-known/exchange-keys.json",
    "/oauth/jwks.json", "/.well-known/openid-configuration", "/errors/forbidden", "/metrics", "/", "/v1/citizens",
    "/v1/enterprises", "/v1/datasets", "/registry/subjects", "/registry/schemas/ids/1", "/v1/views", "/favicon.ico",
)  # fmt: skip
METHODS = (
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "SEARCH", "LIST", "PROPFIND", "get"
)  # fmt: skip


@dataclass
class Pool:
    """What requests are made of. `secrets` are the clients' own, `lines` what departments push, by contract."""

    numbers: Mapping[str, Sequence[str]]
    canaries: Sequence[str]
    contracts: Sequence[str]
    names: Sequence[str]  # fields with their contract, and concepts
    purposes: Mapping[str, Sequence[str]]  # of each client; of "" all that are registered
    tokens: Mapping[str, str]
    secrets: Mapping[str, str]
    lines: Mapping[str, Sequence[bytes]]


@dataclass
class Draft:
    """A request that may still be changed."""

    method: str
    path: str
    heads: list[tuple[bytes, bytes]]
    body: Any = b""  # bytes, or what becomes JSON
    numbers: set[str] = field(default_factory=set)

    def head(self, name: str, value: str | bytes) -> None:
        text = value if isinstance(value, bytes) else value.encode("utf-8", "replace")
        self.heads.append((name.encode(), text))


@dataclass(frozen=True)
class Asked:
    """What was sent, and the most that an answer to it may rest on. `spoilt`: by which changes."""

    route: str
    data: bytes
    method: str
    clients: frozenset[str]
    purposes: frozenset[str]
    case: bool
    numbers: frozenset[str]
    spoilt: tuple[str, ...]
    narrowed: bool

    def __str__(self) -> str:
        return f"{self.route} {self.spoilt or ''} {self.data[:2000]!r}"


class Fuzz:
    """Draws requests; the same ones from the same seed and pool."""

    def __init__(self, random_: random.Random, pool: Pool) -> None:
        self.random = random_
        self.pool = pool

    def draw(self) -> Asked:
        """Any request but a push."""
        routes = {"view": 14, "page": 2, "token": 1, "registry": 1, "contract": 1}
        (route,) = self.random.choices(list(routes), list(routes.values()))
        return self._asked(route, getattr(self, f"_{route}")())

    def push(self) -> Asked:
        """A push of lines that departments push, spoilt or not."""
        return self._asked("push", self._push())

    # -- sound requests --

    def _view(self) -> Draft:
        random_, pool = self.random, self.pool
        kind = random_.choice(list(VIEWS))
        client = random_.choice([one for one, of in pool.purposes.items() if one and of])
        purposes = pool.purposes[client if random_.random() < 0.9 else ""]
        draft = Draft("POST", VIEWS[kind], [])
        self._bearer(draft, client)
        draft.head("Exchange-Purpose", random_.choice(purposes))
        if random_.random() < 0.5:
            draft.head("Exchange-Case", f"F/{random_.randrange(10**6)}")
        if random_.random() < 0.2:
            draft.head("Exchange-On-Behalf-Of", random_.choice(["officer 7", "张伟", "x" * 64]))
        draft.body = {"id": self._number(draft, kind if random_.random() < 0.95 else None)}
        if random_.random() < 0.2:
            draft.body["contracts"] = random_.sample(pool.contracts, random_.randrange(12))
        if random_.random() < 0.2:
            draft.body["fields"] = random_.sample(pool.names, random_.randrange(60))
        if random_.random() < 0.2:
            times = [random_.choice([0, 1, 10**15, 2 * 10**15, -1]) for _ in range(2)]
            cursor = f"{times[0]}.{times[1]}.{random_.getrandbits(128):032x}.{random_.randrange(1, 4)}"
            draft.body["after"] = dict.fromkeys(random_.sample(pool.contracts, random_.randrange(1, 4)), cursor)
        return draft

    def _page(self) -> Draft:
        draft = Draft("GET", self.random.choice(PAGES), [])
        self._bearer(draft, self.random.choice(list(self.pool.tokens)))
        return draft

    def _contract(self) -> Draft:
        draft = Draft("GET", f"/v1/contracts/{self.random.choice([*self.pool.contracts, self._word(draft=None)])}", [])
        self._bearer(draft, self.random.choice(list(self.pool.tokens)))
        return draft

    def _token(self) -> Draft:
        client, secret = self.random.choice(list(self.pool.secrets.items()))
        form = {"grant_type": "client_credentials", "scope": self.random.choice(["", "view", "publish view admin"])}
        draft = Draft("POST", "/oauth/token", [(b"Content-Type", b"application/x-www-form-urlencoded")])
        if self.random.random() < 0.5:
            form[self.random.choice(["client_id", "client_assertion", "x", "grant_type"])] = self._word(draft)
        if self.random.random() < 0.7:
            draft.head("Authorization", "Basic " + b64encode(f"{client}:{secret}".encode()).decode())
        draft.body = urlencode(form).encode()
        return draft

    def _registry(self) -> Draft:
        random_ = self.random
        contract = random_.choice(self.pool.contracts)
        named = {"type": "record", "name": self._word(None), "fields": [{"name": self._word(None), "type": "x"}]}
        draft = random_.choice(
            [
                Draft("GET", f"/registry/schemas/ids/{random_.choice([1, 5, 999, 2**63, self._word(None)])}", []),
                Draft("GET", f"/registry/subjects/{contract}.v1-value/versions/latest", []),
                Draft("GET", f"/registry/subjects/{self._word(None)}/versions/latest", []),
                Draft("POST", f"/registry/subjects/{contract}.v1-value", [], {"schema": json.dumps(named)}),
                Draft("POST", f"/registry/subjects/{contract}.v1-value/versions", [], {"schema": self._word(None)}),
            ]
        )
        owner = f"{contract.partition('.')[0]}-connector"
        self._bearer(draft, owner if owner in self.pool.tokens else random_.choice(list(self.pool.tokens)))
        return draft

    def _push(self) -> Draft:
        random_ = self.random
        contract = random_.choice(list(self.pool.lines))
        lines: list[Any] = [
            json.loads(one) for one in random_.sample(self.pool.lines[contract], random_.randrange(1, 4))
        ]
        to = contract if random_.random() < 0.85 else random_.choice([*self.pool.contracts, self._word(None)])
        draft = Draft("POST", f"/v1/datasets/{quote(to)}/records", [])
        self._bearer(draft, f"{contract.partition('.')[0]}-connector")
        draft.head("Idempotency-Key", f"fuzz-{random_.getrandbits(64)}")
        for line in lines:
            if random_.random() < 0.7:
                self._spoil_node(draft, line)
        if random_.random() < 0.5:
            draft.head("Content-Type", "application/json")
            draft.body = lines
        else:
            draft.head("Content-Type", "application/x-ndjson")
            draft.body = "\n".join(json.dumps(line) for line in lines).encode()
        return draft

    # -- their parts --

    def _bearer(self, draft: Draft, client: str) -> None:
        draft.head("Authorization", f"Bearer {self.pool.tokens[client]}")

    def _number(self, draft: Draft | None, kind: str | None = None) -> str:
        number = self.random.choice(self.pool.numbers[kind or self.random.choice(list(self.pool.numbers))])
        if draft is not None:
            draft.numbers.add(number)
        return number

    def _word(self, draft: Draft | None) -> str:
        """What must not come back: somebody's number, a planted value, or one with something around it."""
        text = self._number(draft) if self.random.random() < 0.5 else self.random.choice(self.pool.canaries)
        return self.random.choice([text, text, text.lower(), f"a{text}", f"{text}%00", f"civil.{text}", f"{text}\n"])

    # -- what spoils them --

    def _asked(self, route: str, draft: Draft) -> Asked:
        random_ = self.random
        kinds: list[tuple[str, Callable[[Draft], None]]] = [
            ("method", self._method), ("path", self._path), ("query", self._query), ("head", self._head),
            ("odd head", self._odd_head), ("token", self._spoil_token), ("json", self._json),
        ]  # fmt: skip
        chosen = random_.choices(kinds, [1, 2, 2, 4, 4, 3, 6], k=random_.choice([0, 0, 0, 0, 1, 1, 1, 1, 2, 3]))
        for _, spoil in chosen:
            spoil(draft)
        narrowed = isinstance(draft.body, dict) and bool(draft.body.keys() - {"id"})
        body = draft.body if isinstance(draft.body, bytes) else self._text(draft.body).encode("utf-8", "surrogatepass")
        spoilt = [name for name, _ in chosen]
        if random_.random() < 0.06:
            body = self._bytes(body)
            spoilt.append("bytes")
        return Asked(
            route,
            self._whole(draft, body, spoilt),
            draft.method,
            frozenset(
                one
                for one, token in self.pool.tokens.items()
                if any(name.lower() == b"authorization" and token.encode() in value for name, value in draft.heads)
            ),
            frozenset(
                value.strip().decode("latin-1")
                for name, value in draft.heads
                if name.lower().strip() == b"exchange-purpose"
            )
            & frozenset(self.pool.purposes[""]),
            any(name.lower().strip() == b"exchange-case" for name, _ in draft.heads),
            frozenset(draft.numbers),
            tuple(spoilt),
            narrowed,
        )

    def _whole(self, draft: Draft, body: bytes, spoilt: list[str]) -> bytes:
        heads = [(b"Host", b"gateway"), *draft.heads]
        if not any(name.lower() == b"content-type" for name, _ in heads) and body:
            heads.append((b"Content-Type", b"application/json"))
        chunked = body and self.random.random() < 0.1
        if chunked:
            spoilt.append("chunked")
            cut = self.random.randrange(len(body) + 1)
            parts = [part for part in (body[:cut], body[cut:]) if part]
            body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
            heads.append((b"Transfer-Encoding", b"chunked"))
        else:
            heads.append((b"Content-Length", b"%d" % len(body)))
        heads.append((b"Connection", b"close"))
        start = f"{draft.method} {draft.path} HTTP/1.1\r\n".encode("utf-8", "surrogatepass")
        return start + b"".join(b"%b: %b\r\n" % pair for pair in heads) + b"\r\n" + body

    def _method(self, draft: Draft) -> None:
        draft.method = self.random.choice(METHODS)

    def _path(self, draft: Draft) -> None:
        word, path = self._word(draft).strip(), draft.path
        draft.path = self.random.choice(
            [
                path + "/", "/" + path, path + f"/{quote(word)}", path + f";{quote(word)}", path.upper(),
                path.replace("/v1/", "/v1/../v1/"), path.replace("/", "%2f"), path.replace("view", "%76iew"),
                f"/{quote(word)}{path}", path.replace("/v1", "/v2"), f"http://{word}{path}", path + "%00", path + "#x",
                path + f"/..%2f{quote(word)}", path.rpartition("/")[0] + f"/{quote(word)}", f"/{word}",
            ]
        )  # fmt: skip

    def _query(self, draft: Draft) -> None:
        number, word = self._number(draft), self._word(draft)
        draft.path += "?" + self.random.choice(
            [
                urlencode({"id": number, "purpose": word}), urlencode({"fields": word, "limit": 10**9, "offset": -1}),
                f"{quote(word)}", f"access_token={number}", "&" * 50, f"id={number}&id={quote(word)}", "%ff%00=%zz",
                urlencode({"verbose": 1, "debug": "true", "_method": "GET", "format": "csv"}),
            ]
        )  # fmt: skip

    def _head(self, draft: Draft) -> None:
        """Drop, double, rename or replace one of the heads that say something."""
        if not draft.heads:
            return
        at = self.random.randrange(len(draft.heads))
        name, value = draft.heads[at]
        number, purposes = self._number(draft), self.pool.purposes[""]
        another = self.random.choice(purposes).encode() if name == b"Exchange-Purpose" else value
        change = self.random.choice(["drop", "double", "twice", "replace", "case", "space", "cut", "other", "list"])
        if change == "drop":
            del draft.heads[at]
        elif change == "double":
            draft.heads.insert(at, (name, another))
        elif change == "twice":
            draft.heads[at] = (name, value + b", " + another)
        elif change == "replace":
            draft.heads[at] = (name, number.encode())
        elif change == "case":
            draft.heads[at] = (name.lower(), value.swapcase() if name != b"Authorization" else value)
        elif change == "space":
            draft.heads[at] = (name, b" \t" + value + b" \t")
        elif change == "cut":
            draft.heads[at] = (name, value[: len(value) // 2])
        elif change == "other":
            draft.heads[at] = (name, another)
        else:
            draft.heads[at] = (name + b"s", value)

    def _odd_head(self, draft: Draft) -> None:
        number, word = self._number(draft), self._word(draft).strip()
        person = self._number(draft, "citizen")  # a trace may hold what looks like an enterprise's: docs/http.md
        client = self.random.choice(list(self.pool.tokens))
        name, value = self.random.choice(
            [
                ("Accept", "text/csv"), ("Accept", f"application/{number}"), ("Accept-Language", word),
                ("Range", "bytes=0-9"),
                ("X-HTTP-Method-Override", "GET"), ("X-Forwarded-For", number), ("X-Forwarded-Prefix", f"/{number}"),
                ("X-Original-URL", f"/v1/{number}"), ("Exchange-Client", client), ("Exchange-Case", number),
                ("Exchange-Case", f"A/{number[:6]}.{number[6:]}"), ("Cookie", word),
                ("Exchange-On-Behalf-Of", "\udcff"), ("Exchange-On-Behalf-Of", f"{number} {number}" * 2),
                ("X-Request-Id", number),
                ("Referer", f"/{word}"),
                ("traceparent", f"00-{person:0<32.32}-{'b' * 16}-01"), ("If-None-Match", f'"{word}"'), ("Via", word),
                ("Content-Encoding", "gzip"), ("Content-Type", f"text/{number}"), ("Expect", "100-continue"),
                ("Content-Type", "application/json; charset=utf-16"), ("User-Agent", word), ("Origin", f"http://{number}"),
                ("Authorization", f"Bearer {self.pool.tokens[client]}"), ("Proxy-Authorization", f"Basic {number}"),
                ("Host", number), ("Upgrade", "websocket"), ("X" + number, "1"), ("X-Long", word * 300),
            ]
        )  # fmt: skip
        draft.head(name, value.encode("utf-8", "surrogateescape"))

    def _spoil_token(self, draft: Draft) -> None:
        """Another's token, one that is no more quite right, or none."""
        at = next((at for at, (name, _) in enumerate(draft.heads) if name == b"Authorization"), None)
        if at is None:
            return
        client = self.random.choice(list(self.pool.tokens))
        token, other = self.pool.tokens[client], self.pool.tokens[self.random.choice(list(self.pool.tokens))]
        head, claims, signature = token.split(".")
        place = self.random.randrange(len(token) - 2)  # the last sign has bits that mean nothing
        named = urlsafe_b64encode(json.dumps({"sub": self._word(draft), "client_id": client}).encode()).decode()
        none = urlsafe_b64encode(b'{"alg":"none","typ":"at+jwt"}').decode().rstrip("=")
        draft.heads[at] = (
            b"Authorization",
            self.random.choice(
                [
                    f"Bearer {token}", f"bearer {token}", f"Bearer  {token}", f"Bearer {token} {self._word(draft)}",
                    f"Bearer {token[:place]}{'A' if token[place] != 'A' else 'B'}{token[place + 1 :]}", f"DPoP {token}",
                    f"Bearer {none}.{claims}.", f"Bearer {head}.{other.split('.')[1]}.{signature}", token,
                    f"Bearer {head}.{named.rstrip('=')}.{signature}", f"Bearer {self._word(draft)}", "Bearer",
                    f"Bearer {head}.{claims}.{other.split('.')[2]}", f"Bearer {token}.{token}", f"Bearer {token[:-10]}",
                ]
            ).strip().encode(),
        )  # fmt: skip

    def _json(self, draft: Draft) -> None:
        if isinstance(draft.body, (dict, list)) and draft.body:
            self._spoil_node(draft, draft.body)
        elif not draft.body:
            draft.body = {self._word(draft): self._word(draft)}

    def _spoil_node(self, draft: Draft, node: Any) -> None:
        """Change one member, anywhere in it."""
        while True:
            at: Any = self.random.choice(list(node) if isinstance(node, dict) else range(len(node)))
            if not isinstance(node[at], (dict, list)) or not node[at] or self.random.random() < 0.3:
                break
            node = node[at]
        word, number = self._word(draft), self._number(draft)
        change = self.random.randrange(4)
        if change == 0 and isinstance(node, dict):
            node[self.random.choice([word, "id", "purpose", "case", "client", "limit"])] = word
        elif change == 1 and isinstance(node, dict):
            node[self.random.choice([word, at.upper()])] = node.pop(at)
        elif change == 2 and isinstance(node[at], str):
            text = node[at]
            wide = "".join(chr(ord(one) + 0xFEE0) if "!" <= one <= "~" else one for one in text)
            node[at] = self.random.choice(
                [text.lower(), f" {text} ", wide, text + "\0", text[:-1], f"{text[:6]} {text[6:]}", "\ud800" + text]
            )
        else:
            node[at] = self.random.choice(
                [word, number, [number], {word: number}, None, True, 0, -1, 2**70, 1.5, [], {}, "", [[[[word]]]],
                 "\ud800", self.random.choice(self.pool.contracts), self.random.choice(self.pool.names), "*", "civil.*"]
            )  # fmt: skip

    def _text(self, value: Any) -> str:
        """As JSON; sometimes what is not quite JSON any more."""
        text = json.dumps(value, ensure_ascii=self.random.random() < 0.5)
        if self.random.random() < 0.1 and text.startswith("{"):
            text = self.random.choice(
                [
                    f'{{"id": "{self._number(None)}", {text[1:]}', text + self._word(None), "\ufeff" + text,
                    "[" * 40 + text,
                    text.replace("}", ', "x": NaN}'), text.replace('"', "'"), f" \n{text}\t", "\\u0000" + text,
                ]
            )  # fmt: skip
        return text

    def _bytes(self, data: bytes) -> bytes:
        """Flipped, cut, filled in or put twice, anywhere."""
        at = self.random.randrange(len(data) + 1)
        more = self.random.choice([b"\0", b"\xff", b"\xed\xa0\x80", b'"', b"}", bytes([self.random.randrange(256)])])
        return self.random.choice(
            [data[:at] + more + data[at + 1 :], data[:at] + more + data[at:], data[:at], data[at:], data + data]
        )
