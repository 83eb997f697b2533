"""exchange.toml: what is wrong is said by setting, with what to do, and never with a secret."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from exchange.errors import SettingWrong
from exchange.settings import Settings, read_secret


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "exchange.toml"
    file.write_text(text)
    return file


def test_relative_places_are_taken_from_the_folder_of_the_file(tmp_path: Path) -> None:
    settings = Settings.load(write(tmp_path, 'city = "Lanting"'))
    assert settings.url(settings.store.url) == f"sqlite:///{tmp_path}/data/store.db"
    assert settings.audit_url == f"sqlite:///{tmp_path}/data/audit.db"
    assert settings.path(settings.schemas) == tmp_path / "schemas"


def test_two_urls_move_it_out(tmp_path: Path) -> None:
    settings = Settings.load(
        write(tmp_path, '[broker]\nurl = "kafka://a:1,b:2"\n[store]\nurl = "postgresql://exchange@db/exchange"')
    )
    assert settings.url(settings.broker.url) == "kafka://a:1,b:2"
    assert settings.audit_url == "postgresql://exchange@db/exchange"


def test_an_audit_log_of_its_own_has_options_of_its_own(tmp_path: Path) -> None:
    beside = Settings.load(write(tmp_path, '[store]\nurl = "postgresql://db/x"\n[store.options]\nsslmode = "require"'))
    assert beside.audit_options == {"sslmode": "require"}
    apart = Settings.load(
        write(
            tmp_path,
            '[store]\nurl = "postgresql://db/x"\n[store.options]\nsslmode = "require"\n[audit]\nurl = "sqlite:///a.db"',
        )
    )
    assert apart.audit_options == {}


def test_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXCHANGE_STORE__URL", "postgresql://elsewhere/exchange")
    settings = Settings.load(write(tmp_path, '[store]\nurl = "sqlite:///x.db"\n[store.options]\nconnect_timeout = 3'))
    assert settings.store.url == "postgresql://elsewhere/exchange"
    assert settings.store.options == {"connect_timeout": 3}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("city = ", "TOML"),
        ("[gateway]\nport = 99999", "gateway.port"),
        ("[gateway]\nprot = 1", "gateway.prot"),
        ('timezone = "Asia/Shangai"', "timezone"),
        ('[keys]\nbus = "hunter2hunter2"', "keys.bus"),
        ("[[issuers]]\ndiscovery = 'x'", "issuers.0.issuer"),
        ("colour = 1", "colour"),
    ],
)
def test_what_is_wrong_is_named_and_not_repeated(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(SettingWrong) as wrong:
        Settings.load(write(tmp_path, text))
    assert named in str(wrong.value)
    assert "hunter2" not in str(wrong.value)


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SettingWrong, match="exchange init"):
        Settings.load(tmp_path / "exchange.toml")


def test_a_secret_is_a_private_file_or_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "bus.key"
    secret.write_bytes(b"very secret")
    secret.chmod(0o600)
    assert read_secret("keys.bus", "file:bus.key", tmp_path) == b"very secret"
    secret.chmod(0o640)
    with pytest.raises(SettingWrong, match="chmod 600"):
        read_secret("keys.bus", "file:bus.key", tmp_path)
    monkeypatch.setenv("BUS", "from outside")
    assert read_secret("keys.bus", "env:BUS", tmp_path) == b"from outside"
    with pytest.raises(SettingWrong, match="NOBODY is not set"):
        read_secret("keys.bus", "env:NOBODY", tmp_path)
    os.truncate(secret, 0)
    secret.chmod(0o600)
    with pytest.raises(SettingWrong, match="is empty"):
        read_secret("keys.bus", "file:bus.key", tmp_path)
