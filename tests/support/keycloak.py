"""A real Keycloak: what its administrator does over its admin interface, and what its clients do to get a token."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import secrets
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
from joserfc.jwk import Key, OKPKey

from tests.support.tokens import public, sign

ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@dataclass
class Keycloak:
    """`url` has the administrator's name and password in it, as deploy/local/services.py prints it."""

    url: str
    _token: tuple[float, str] = field(default=(0.0, ""), repr=False)

    @property
    def root(self) -> str:
        """Its address without the administrator."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname}:{parts.port}"

    def issuer(self, realm: str = "city") -> str:
        return f"{self.root}/realms/{realm}"

    # -- its administrator --

    def admin(self, method: str, path: str, document: Any = None) -> Any:
        """One call of the admin interface; its answer, if it has one."""
        headers = {"Authorization": f"Bearer {self.admin_token()}"}
        answer = httpx2.request(method, f"{self.root}/admin/realms{path}", json=document, headers=headers, timeout=30)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def admin_token(self) -> str:
        """The administrator's own token, of the realm `master`."""
        until, token = self._token
        if time.monotonic() > until:
            parts = urlsplit(self.url)
            form = {
                "grant_type": "password", "client_id": "admin-cli", "username": parts.username,
                "password": parts.password,
            }  # fmt: skip
            answer = httpx2.post(f"{self.issuer('master')}/protocol/openid-connect/token", data=form, timeout=30)
            assert answer.status_code == 200, answer.text
            token = answer.json()["access_token"]
            self._token = (time.monotonic() + 30, token)
        return token

    def client(self, client_id: str, realm: str = "city") -> dict[str, Any]:
        (found,) = self.admin("GET", f"/{realm}/clients?clientId={client_id}")
        return dict(found)

    def change(self, client_id: str, realm: str = "city", **changes: Any) -> None:
        """Change a client; `attributes` are added to those that it has."""
        found = self.client(client_id, realm)
        attributes = {**found["attributes"], **changes.pop("attributes", {})}
        self.admin("PUT", f"/{realm}/clients/{found['id']}", {**found, **changes, "attributes": attributes})

    def give_key(self, client_id: str, key: Key, realm: str = "city") -> None:
        """Register the public half of a client's key, as docs/identity.md says."""
        jwks = json.dumps({"keys": [public(key)]})
        self.change(client_id, realm, attributes={"use.jwks.string": "true", "jwks.string": jwks})

    def rotate(self, realm: str = "city") -> None:
        """A new RSA key that signs from now on; the old one stays published."""
        config = {
            "priority": ["200"],
            "enabled": ["true"],
            "active": ["true"],
            "keySize": ["2048"],
            "algorithm": ["RS256"],
        }
        component = {
            "name": "rsa-next", "providerId": "rsa-generated", "providerType": "org.keycloak.keys.KeyProvider",
            "parentId": self.admin("GET", f"/{realm}")["id"], "config": config,
        }  # fmt: skip
        self.admin("POST", f"/{realm}/components", component)

    # -- its clients --

    def ask(self, client_id: str, key: Key, realm: str = "city", **form: str) -> httpx2.Response:
        """The token endpoint's answer to private_key_jwt (RFC 7523)."""
        now = int(time.time())
        assertion = {
            "iss": client_id, "sub": client_id, "aud": self.issuer(realm), "jti": secrets.token_hex(8), "iat": now,
            "exp": now + 60,
        }  # fmt: skip
        alg = {"alg": "EdDSA"} if isinstance(key, OKPKey) else {}  # it does not know RFC 9864's name Ed25519
        asked = {
            "grant_type": "client_credentials", "client_assertion_type": ASSERTION,
            "client_assertion": sign(key, assertion, {"typ": "JWT"} | alg), **form,
        }  # fmt: skip
        return httpx2.post(f"{self.issuer(realm)}/protocol/openid-connect/token", data=asked, timeout=30)

    def token(self, client_id: str, key: Key, realm: str = "city", **form: str) -> str:
        answer = self.ask(client_id, key, realm, **form)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    def sign_in(self, client_id: str, redirect: str, user: str, password: str, realm: str = "city") -> dict[str, Any]:
        """A person in a browser, with PKCE (RFC 7636): the token endpoint's answer to the code."""
        verifier = secrets.token_urlsafe(32)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        page = httpx2.get(self.authorization(client_id, redirect, realm, challenge), timeout=30)
        assert page.status_code == 200, page.text
        found = re.search(r'action="([^"]+)"', page.text)
        assert found is not None, "there is no form to sign in"
        # Its cookies are `Secure`: browsers send them to http on loopback all the same, httpx does not.
        cookies = "; ".join(each.partition(";")[0] for each in page.headers.get_list("set-cookie"))
        form = {"username": user, "password": password}
        done = httpx2.post(html.unescape(found[1]), data=form, headers={"Cookie": cookies}, timeout=30)
        assert done.status_code == 302, done.text
        code = parse_qs(urlsplit(done.headers["location"]).query)["code"][0]
        form = {
            "grant_type": "authorization_code", "client_id": client_id, "redirect_uri": redirect, "code": code,
            "code_verifier": verifier,
        }  # fmt: skip
        answer = httpx2.post(f"{self.issuer(realm)}/protocol/openid-connect/token", data=form, timeout=30)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def authorization(self, client_id: str, redirect: str, realm: str = "city", challenge: str | None = None) -> str:
        """Where a browser is sent to sign in."""
        query = {"response_type": "code", "scope": "openid", "client_id": client_id, "redirect_uri": redirect}
        if challenge is not None:
            query |= {"code_challenge": challenge, "code_challenge_method": "S256"}
        return str(httpx2.URL(f"{self.issuer(realm)}/protocol/openid-connect/auth", params=query))
