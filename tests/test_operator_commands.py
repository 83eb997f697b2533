"""What `exchange up` and `exchange token` say when a folder or the gateway is not there."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest

from exchange.cli.init import initialise
from exchange.cli.token import fetch
from exchange.cli.up import commands
from exchange.errors import GatewayUnavailable, SettingWrong
from exchange.settings import Settings
from exchange.wiring import client_secret
from tests.support.site import free_port


def settings(folder: Path, text: str = "") -> Settings:
    config = folder / "exchange.toml"
    config.write_text(text, "utf-8")
    return Settings.load(config)


def test_a_configured_folder_of_connectors_that_is_missing_is_named(tmp_path: Path) -> None:
    wrong = settings(tmp_path, 'connectors = "offices"\n')
    with pytest.raises(SettingWrong, match=r"connectors: .*/offices is no folder"):
        commands(tmp_path / "exchange.toml", wrong)
    (tmp_path / "offices").mkdir()
    assert set(commands(tmp_path / "exchange.toml", wrong)) == {"gateway", "materialise"}
    initialise(tmp_path / "city" / "exchange.toml", Path("schemas"), Path("policies"))
    made = Settings.load(tmp_path / "city" / "exchange.toml")
    assert set(commands(tmp_path / "exchange.toml", made)) == {"gateway", "materialise"}


def test_a_token_cannot_be_had_while_the_gateway_is_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    down = settings(tmp_path, f"[gateway]\nport = {free_port()}\n")
    secret = client_secret(down, "desk")
    secret.parent.mkdir(parents=True)
    secret.write_text("secret", "ascii")
    with pytest.raises(GatewayUnavailable, match=r"^The gateway cannot be reached: .* does not answer") as raised:
        fetch(down, "desk")
    assert "keys" not in str(raised.value)
    for strange in ("<html>", "[]", "{}"):
        monkeypatch.setattr(httpx2, "post", lambda *_, said=strange, **__: httpx2.Response(200, text=said))
        with pytest.raises(GatewayUnavailable, match="no token endpoint"):
            fetch(down, "desk")


def test_what_is_no_secret_and_no_address_is_named(tmp_path: Path) -> None:
    wrong = settings(tmp_path, '[gateway]\npublic_url = "http://[::1"\n')
    secret = client_secret(wrong, "desk")
    secret.parent.mkdir(parents=True)
    secret.write_bytes(b"\xff")
    with pytest.raises(SettingWrong, match="desk cannot be read"):
        fetch(wrong, "desk")
    secret.write_text("secret", "ascii")
    with pytest.raises(SettingWrong, match=r"gateway\.public_url"):
        fetch(wrong, "desk")
