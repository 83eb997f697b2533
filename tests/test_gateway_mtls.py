"""A token that is bound to a certificate counts for who showed it to the proxy, and the proxy is believed, nobody else.

The last tests run a real nginx with the configuration of deploy/nginx in front of a gateway's process.
"""

from __future__ import annotations

import base64
import hashlib
import re
import ssl
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import ECKey
from pydantic import ValidationError

from exchange.cli.policy import apply_policies
from exchange.settings import GatewaySettings
from gateway.client_cert import ClientCertificates, thumbprint
from gateway.issuer import SigningKey
from gateway.tokens import TokenRefused
from tests.support.gateway import CITIZEN, KEY, City, client
from tests.support.nginx import nginx
from tests.support.proofs import bound, proof
from tests.support.site import ROOT, Process, Site, free_port, gateway_process
from tests.support.tokens import claims, sign

PROXY, STRANGER = "10.1.2.3", "10.1.3.3"


@dataclass
class Authority:
    """An authority that makes certificates."""

    key: Any
    certificate: x509.Certificate

    @classmethod
    def made(cls, name: str) -> Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        return cls(key, _certificate(name, key.public_key(), name, key, True))

    def signs(self, name: str, kind: str = "ec") -> Pair:
        made: Any = (
            ec.generate_private_key(ec.SECP256R1())
            if kind == "ec"
            else rsa.generate_private_key(65_537, 4096 if kind == "rsa" else 2048)
        )
        issuer = self.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        return Pair(made, _certificate(name, made.public_key(), str(issuer), self.key, False))


@dataclass
class Pair:
    """A key with its certificate."""

    key: Any
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def header(self) -> str:
        return f":{b64encode(self.der).decode()}:"

    @property
    def x5t(self) -> str:
        return base64.urlsafe_b64encode(hashlib.sha256(self.der).digest()).rstrip(b"=").decode()

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        pem, key = folder / f"{name}.pem", folder / f"{name}.key"
        pem.write_bytes(self.certificate.public_bytes(Encoding.PEM))
        key.write_bytes(self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return pem, key


def _certificate(name: str, public: Any, issuer: str, signer: Any, authority: bool) -> x509.Certificate:
    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = datetime.now(UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    return (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(issuer))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(authority, None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(signer, hashes.SHA256())
    )


CA = Authority.made("Test authority")
DESK, OTHER = CA.signs("tax-desk"), CA.signs("another")


class TestHeader:
    def scope(self, *values: str | bytes, peer: str | None = PROXY) -> dict[str, Any]:
        headers = [(b"client-cert", one if isinstance(one, bytes) else one.encode()) for one in values]
        return {"headers": headers, "client": None if peer is None else (peer, 4711)}

    @pytest.mark.parametrize(
        ("networks", "peer", "believed"),
        [
            ([], PROXY, False),
            ([PROXY], PROXY, True),
            ([PROXY], STRANGER, False),
            (["10.1.2.0/24"], PROXY, True),
            (["10.1.2.0/24"], STRANGER, False),
            (["10.1.2.0/24"], f"::ffff:{PROXY}", True),
            (["10.1.2.0/24"], f"::ffff:{STRANGER}", False),
            (["fd00::/8"], "fd00::1", True),
            (["fd00::/8"], "fe80::1", False),
            (["192.0.2.1", "10.1.2.0/24"], PROXY, True),
            (["10.1.2.0/24"], None, False),
            (["10.1.2.0/24"], "a.socket", False),
            (["10.1.2.0/24"], "", False),
        ],
    )
    def test_only_listed_peers_are_believed(self, networks: list[str], peer: str | None, believed: bool) -> None:
        found = ClientCertificates(networks).thumbprint(self.scope(DESK.header, peer=peer))
        assert found == (DESK.x5t if believed else None)

    @pytest.mark.parametrize(
        "field",
        [
            "", ":", "::", ":=:", ":!:", DESK.header[1:], DESK.header[:-1], DESK.header.replace(":", ""),
            DESK.header + ";a=1", DESK.header + ", " + OTHER.header, f" {DESK.header}", f":{b64encode(b'x').decode()}:",
            f":{b64encode(DESK.der + b'x').decode()}:", f":{b64encode(DESK.der[:-1]).decode()}:",
            ":" + base64.urlsafe_b64encode(DESK.der).decode().replace("-", "_") + "_:",
            DESK.certificate.public_bytes(Encoding.PEM).replace(b"\n", b" "),
        ],
    )  # fmt: skip
    def test_what_is_no_certificate_of_rfc_9440_is_refused(self, field: str | bytes) -> None:
        with pytest.raises(TokenRefused, match="Client-Cert") as caught:
            ClientCertificates([PROXY]).thumbprint(self.scope(field))
        assert caught.value.reason == "certificate"
        assert caught.value.challenge == 'Bearer realm="exchange", error="invalid_token"'
        assert ClientCertificates([PROXY]).thumbprint(self.scope(field, peer=STRANGER)) is None

    def test_two_headers_are_none(self) -> None:
        with pytest.raises(TokenRefused):
            ClientCertificates([PROXY]).thumbprint(self.scope(DESK.header, DESK.header))
        assert ClientCertificates([PROXY]).thumbprint(self.scope()) is None

    @given(st.binary(max_size=100) | st.binary(max_size=60).map(lambda raw: b":" + b64encode(raw) + b":"))
    def test_whatever_comes_is_refused(self, field: bytes) -> None:
        with pytest.raises(TokenRefused):
            thumbprint(field)

    @pytest.mark.parametrize("peers", [["0.0.0.0/0"], ["::/0"], ["10.1.2.3/24"], ["proxy"], [""]])
    def test_what_is_no_network_of_proxies_is_refused(self, peers: list[str]) -> None:
        with pytest.raises(ValidationError, match="client_cert_peers"):
            GatewaySettings(client_cert_peers=peers)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("peer", "sent", "status"),
    [
        (PROXY, [DESK.header], 200),
        (PROXY, [OTHER.header], 401),
        (PROXY, [], 401),
        (PROXY, [DESK.header, DESK.header], 401),
        (PROXY, ["nonsense"], 401),
        (STRANGER, [DESK.header], 401),
        (STRANGER, [], 401),
    ],
)
@pytest.mark.parametrize("demanded", [True, False])
async def test_a_token_bound_to_a_certificate_needs_it(
    tmp_path: Path, peer: str, sent: list[str], status: int, demanded: bool
) -> None:
    city = City(tmp_path, peers=["10.1.2.0/24"])
    mine = sign(KEY, claims(city.clock(), cnf={"x5t#S256": DESK.x5t}))
    if demanded:
        city.clients = [client("tax-desk", "tax", "view").model_copy(update={"sender_constrained": "mtls"})]
        city.make_bundle()
    headers = [("authorization", f"Bearer {mine}"), ("exchange-purpose", "tax-assessment")]
    transport = httpx2.ASGITransport(city.app, client=(peer, 4711))
    async with httpx2.AsyncClient(transport=transport, base_url="http://gateway") as http:
        answer = await http.post(
            "/v1/citizens/view", json={"id": CITIZEN}, headers=[*headers, *(("client-cert", one) for one in sent)]
        )
        plain = [("authorization", f"Bearer {sign(KEY, claims(city.clock()))}"), headers[1]]
        bare = await http.post("/v1/citizens/view", json={"id": CITIZEN}, headers=[*plain, ("client-cert", "nonsense")])
    assert answer.status_code == status
    assert bare.status_code == (401 if demanded else 200)  # not bound: nobody looks for a certificate
    assert city.identity.take_refused() == (
        ({"certificate": 1} if status == 401 else {}) | ({"unbound": 1} if demanded else {})
    )
    city.close()


# --- nginx ------------------------------------------------------------------------------------------------------------

FOLDER = "/etc/nginx/exchange"
BUILT_IN = "https://issuer.exchange.invalid"
NEAR = "127.0.0.2"  # from where this nginx calls the gateway, so that the test can be somebody else


@dataclass
class Front:
    """nginx in front of a gateway."""

    url: str
    gateway: Process
    site: Site
    folder: Path
    key: Any

    def token(self, **more: Any) -> str:
        said = claims(datetime.now(UTC), iss=BUILT_IN, **more)
        return sign(self.key, said, {"kid": self.key.thumbprint()})

    def ask(
        self, token: str, shown: Pair | None = None, *, url: str | None = None, scheme: str = "Bearer", **headers: str
    ) -> httpx2.Response:
        trust = ssl.create_default_context(cafile=str(self.folder / "server-ca.pem"))
        if shown is not None:
            trust.load_cert_chain(*map(str, shown.write(self.folder, "shown")))
        sent = {"authorization": f"{scheme} {token}", "exchange-purpose": "tax-assessment", **headers}
        with httpx2.Client(verify=trust) as http:
            return http.post(f"{url or self.url}/v1/citizens/view", json={"id": CITIZEN}, headers=sent)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("front")
    (folder / "site").mkdir()
    site = Site.made(folder / "site")
    listed = site.folder / "policies" / "clients.toml"
    desk = 'client_id = "tax-desk"\n'
    listed.write_text(listed.read_text("utf-8").replace(desk, f'{desk}sender_constrained = "mtls"\n'), "utf-8")
    apply_policies(site.settings())
    port = free_port()
    url = f"https://localhost:{port}"
    key = SigningKey((site.folder / "keys" / "issuer.pem").read_bytes()).key
    environment = {
        "EXCHANGE_GATEWAY__PUBLIC_URL": url,
        "EXCHANGE_GATEWAY__CLIENT_CERT_PEERS": f'["{NEAR}"]',
    }
    with ExitStack() as stack:
        gateway = stack.enter_context(gateway_process(site, **environment))
        stack.enter_context(nginx(folder, configuration(folder, port, gateway.port), port))
        yield Front(url, gateway, site, folder, key)


def configuration(folder: Path, port: int, upstream: int) -> str:
    """That of deploy/nginx with this test's places in it, and certificates for both sides."""
    CA.signs("localhost").write(folder, "server")
    pem = CA.certificate.public_bytes(Encoding.PEM)
    (folder / "server-ca.pem").write_bytes(pem)
    (folder / "clients-ca.pem").write_bytes(pem)
    for name in ("exchange.conf", "client-cert.conf"):
        text = (ROOT / "deploy/nginx" / name).read_text("utf-8").replace(FOLDER, str(folder))
        for told, here in (("listen 443", f"listen 127.0.0.1:{port}"), ("127.0.0.1:8080", f"127.0.0.1:{upstream}")):
            assert name != "exchange.conf" or told in text
            text = text.replace(told, here)
        (folder / name).write_text(text, "utf-8")
    return f"proxy_bind {NEAR};\ninclude {folder}/exchange.conf;"


@pytest.mark.slow
class TestNginx:
    @pytest.mark.parametrize("kind", ["ec", "rsa", "small rsa"])
    def test_the_certificate_that_the_token_is_bound_to(self, front: Front, kind: str) -> None:
        desk = CA.signs("tax-desk", kind)
        mine = front.token(cnf={"x5t#S256": desk.x5t})
        for _ in range(3):
            assert front.ask(mine, desk).status_code == 200
        assert front.ask(mine, OTHER).status_code == 401
        assert front.ask(mine).status_code == 401

    def test_a_client_of_which_it_is_demanded_has_no_other_tokens(self, front: Front) -> None:
        for shown in (DESK, None):
            answer = front.ask(front.token(), shown)
            assert (answer.status_code, "certificate" in answer.json()["detail"]) == (401, True)

    def test_a_certificate_of_another_authority_is_refused_by_nginx(self, front: Front) -> None:
        stranger = Authority.made("Test authority").signs("tax-desk")
        answer = front.ask(front.token(cnf={"x5t#S256": stranger.x5t}), stranger)
        assert answer.status_code == 400
        assert "exchange-receipt" not in answer.headers

    def test_a_forged_header_is_overwritten_by_nginx(self, front: Front) -> None:
        mine = front.token(cnf={"x5t#S256": DESK.x5t})
        for name in ("client-cert", "Client-Cert", "CLIENT-CERT"):
            assert front.ask(mine, OTHER, **{name: DESK.header}).status_code == 401
            assert front.ask(mine, **{name: DESK.header}).status_code == 401
            assert front.ask(mine, DESK, **{name: OTHER.header}).status_code == 200

    def test_a_forged_header_past_nginx_is_not_believed(self, front: Front) -> None:
        mine = front.token(cnf={"x5t#S256": DESK.x5t})
        answer = front.ask(mine, url=front.gateway.url, **{"client-cert": DESK.header})
        assert (answer.status_code, "certificate" in answer.json()["detail"]) == (401, True)

    def test_a_proof_is_for_the_address_that_clients_see(self, front: Front) -> None:
        holder = ECKey.generate_key("P-256")
        now = datetime.now(UTC)
        mine = bound(
            front.key, holder, now, iss=BUILT_IN, client_id="tax-desk", sub="tax-desk",
            cnf={"jkt": holder.thumbprint(), "x5t#S256": DESK.x5t},
        )  # fmt: skip
        url = f"{front.url}/v1/citizens/view"
        first = front.ask(mine, DESK, scheme="DPoP", dpop=proof(holder, mine, now, url=url))
        assert first.status_code == 401
        nonce = first.headers["dpop-nonce"]
        sent = proof(holder, mine, now, url=url, nonce=nonce)
        assert front.ask(mine, DESK, scheme="DPoP", dpop=sent).status_code == 200
        inner = proof(holder, mine, now, url=f"{front.gateway.url}/v1/citizens/view", nonce=nonce)
        assert "htu" in front.ask(mine, DESK, scheme="DPoP", dpop=inner).json()["detail"]
        again = proof(holder, mine, now, url=url, nonce=nonce)
        assert front.ask(mine, OTHER, scheme="DPoP", dpop=again).status_code == 401


def test_the_page_shows_the_configuration_of_nginx_that_is_tested() -> None:
    page, tested = ((ROOT / name).read_text("utf-8") for name in ("docs/http.md", "deploy/nginx/exchange.conf"))
    (shown,) = re.findall(r"```nginx\n(.*?)```", page, re.DOTALL)
    assert "Client-Cert $exchange_client_cert" in shown
    assert shown in tested
