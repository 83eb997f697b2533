"""The connector as a process: what it is told, what it tells, how it stops, which exit status says what."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
from rich.console import Console
from typer.testing import CliRunner

from connectors import commands, runner
from connectors.commands import app
from connectors.config import load_instance
from connectors.csv import CsvSettings
from connectors.reporting import BarReport, JsonReport
from exchange.clock import system_clock
from exchange.credentials import ClientCredentials, ClientSecret
from exchange.errors import (
    IssuerUnavailable,
    NotFound,
    RegistryUnavailable,
    SettingWrong,
    SourceRefused,
    TooManyRejects,
)
from exchange.publish import CursorFile, Outcome, read_status
from exchange.publish.status import PastReading
from exchange.settings import Settings
from exchange.wiring import open_broker
from tests.support.contracts import field, schema
from tests.support.publishing import NOW, FakeRegistry, citizen

INSTANCE = """
name = "people"
connector = "csv"
contract = "civil.person"
path = "../in/people.csv"
settle = 0
poll_interval = "50ms"
batch_size = 2
"""
REGISTRY = (
    '[registry]\nurl = "http://127.0.0.1:{port}/registry"\nclient_id = "civil"\nclient_secret = "env:CIVIL_SECRET"\n'
)


class Department:
    """A folder with settings, keys, contracts, an instance file and its input."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("keys", "schemas/civil", "in", "connectors.d", "data"):
            (folder / name).mkdir(parents=True)
        key = folder / "keys/bus.key"
        key.write_bytes(b"a secret of a test, 32 bytes....")
        key.chmod(0o600)
        (folder / "exchange.toml").write_text('[broker]\nurl = "sqlite:///data/topics.db"\n')
        (folder / "schemas/civil/person.avsc").write_text(json.dumps(schema(field("name", "string"))))
        self.file = folder / "connectors.d/people.toml"
        self.file.write_text(INSTANCE)
        self.write(1, 2, 3)

    @property
    def settings(self) -> Settings:
        return Settings.load(self.folder / "exchange.toml")

    def write(self, *numbers: int, name: str = "甲某") -> None:
        rows = "".join(f"{citizen(number)},{name}\n" for number in numbers)
        whole = self.folder / "in/people.new"
        whole.write_text("citizen_id,name\n" + rows)
        whole.rename(self.folder / "in/people.csv")

    def run(self, *, once: bool = True, stop: threading.Event | None = None) -> tuple[Outcome | None, list[Any]]:
        stream = io.StringIO()
        outcome = runner.run(
            self.file,
            self.settings,
            system_clock,
            lambda source: JsonReport(source, stream),
            stop or threading.Event(),
            once=once,
        )
        return outcome, [json.loads(line) for line in stream.getvalue().splitlines()]

    @property
    def cursor(self) -> Path:
        return self.folder / "data/cursors/civil.people.db"


@pytest.fixture
def department(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Department:
    registry = FakeRegistry()
    monkeypatch.setattr(commands, "load", Settings.load)  # without setting up this process's logs
    monkeypatch.setattr(runner, "open_registry", lambda loaded, settings: registry)
    return Department(tmp_path)


def test_one_reading_with_its_line(department: Department) -> None:
    outcome, lines = department.run()
    assert outcome == Outcome(read=3, published=3)
    (line,) = [line for line in lines if line["event"] == "reading"]
    assert (line["source"], line["read"], line["published"], line["rejected"]) == ("civil/people", 3, 3, 0)
    assert line["as_of"].endswith("Z")
    with closing(open_broker(department.settings)) as broker:
        assert len(list(broker.read("civil.person.v1"))) == 3
    outcome, lines = department.run()
    assert outcome == Outcome()
    assert "nothing new" in lines[0]["note"]


def test_who_is_stopped_while_the_registry_is_away_has_done_what_it_was_told(
    department: Department, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = threading.Event()

    class Away(FakeRegistry):
        def __getattribute__(self, name: str) -> Any:
            stop.set()
            raise RegistryUnavailable("it does not answer")

    monkeypatch.setattr(runner, "open_registry", lambda loaded, settings: Away())
    assert department.run(once=False, stop=stop) == (None, [])
    with pytest.raises(RegistryUnavailable):
        department.run(stop=stop)


def test_polling_until_it_is_stopped_tells_what_happens_once(department: Department) -> None:
    stop = threading.Event()
    told: list[Any] = []
    thread = threading.Thread(target=lambda: told.extend(department.run(once=False, stop=stop)[1]))
    thread.start()
    try:
        _until(lambda: len(_readings(department)) > 3)
        department.write(1, 2, 3, 4)
        _until(lambda: any(past.outcome.published == 1 for past in _readings(department)))
    finally:
        stop.set()
        thread.join(10)
    readings = [line for line in told if line["event"] == "reading"]
    assert [line["published"] for line in readings if line["read"]] == [3, 1]
    assert len(readings) <= 4  # readings in which nothing happens are not told again and again


def test_a_connector_serves_its_metrics_where_its_file_says(department: Department) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        department.file.write_text(f"{INSTANCE}metrics_port = {port}\n")
        with pytest.raises(
            SettingWrong, match=rf"people.toml: metrics_port: cannot listen on 127.0.0.1 port {port} \("
        ):
            department.run()
        assert not department.cursor.exists()
    stop = threading.Event()
    running = threading.Thread(target=lambda: department.run(once=False, stop=stop))
    running.start()
    try:
        _until(lambda: department.cursor.exists() and _published(department) == 3)
        told = httpx2.get(f"http://127.0.0.1:{port}/metrics").text
    finally:
        stop.set()
        running.join(10)
    labels = 'connector="people",contract="civil.person",outcome="published"'
    assert f"exchange_publish_rows_total{{{labels}}}" in told
    assert 'exchange_publish_batch_seconds_count{contract="civil.person"}' in told
    socket.create_server(("127.0.0.1", port)).close()  # it is free again


def test_a_second_process_on_the_same_cursor_file_is_refused(department: Department) -> None:
    department.run()
    with closing(CursorFile(department.cursor)):
        arguments = ["run", str(department.file), "-c", str(department.folder / "exchange.toml"), "--once"]
        result = CliRunner().invoke(app, arguments)
    assert "running already" in str(result.exception)


def test_what_is_wrong_is_named_with_file_and_setting(department: Department) -> None:
    for change, reason in {
        'name = "push"': "the name push belongs",
        'contract = "civil.nobody"': "contract: there is no civil.nobody in",
        'connector = "carrier-pigeon"': "connector: one of csv, kafka, sql is expected",
        'poll_interval = "soon"': "poll_interval: write a number of seconds",
        "batchsize = 5": "batchsize: Extra inputs are not permitted",
        "max_reject_share = 2": "max_reject_share",
        'timezone = "Beijing"': "timezone: not a time zone of the IANA database",
        "[mapping]\nnam = 1": "mapping.nam: civil.person has no such field",
        "[mapping]\nname = true": "mapping",
        "[mapping.name]\nvalues = {}": "give either `column` or `value`",
    }.items():
        key = change.split(" = ")[0]
        kept = [line for line in INSTANCE.splitlines() if not line.startswith(f"{key} =")]
        department.file.write_text("\n".join([*kept, change]))
        with pytest.raises(SettingWrong) as wrong:
            department.run()
        assert str(department.file) in wrong.value.detail
        assert reason in wrong.value.detail
    department.file.write_text("name = ")
    with pytest.raises(SettingWrong, match="cannot be read as TOML"):
        department.run()
    department.file.unlink()
    with pytest.raises(SettingWrong, match="does not exist"):
        department.run()


@pytest.mark.parametrize("name", [r"a\nb", r"a\n", "x" * 10_000, r"\u0430", "A", "-a", ""])
def test_a_name_that_becomes_a_label_of_metrics_is_short_and_plain(department: Department, name: str) -> None:
    kept = [line for line in INSTANCE.splitlines() if not line.startswith("name =")]
    department.file.write_text("\n".join([f'name = "{name}"', *kept]))
    with pytest.raises(SettingWrong, match="name: ") as wrong:
        department.run()
    assert len(str(wrong.value)) < 1000


def test_values_of_settings_are_in_no_error(department: Department) -> None:
    department.file.write_text(INSTANCE + f'max_reject_share = "{citizen(1)}"')
    with pytest.raises(SettingWrong) as wrong:
        department.run()
    assert citizen(1) not in str(wrong.value)


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("30s", 30), ("1.5m", 90), ("2h", 7200), ("1d", 86400), (7, 7)]
)
def test_durations(text: Any, seconds: float) -> None:
    base = {"name": "a", "connector": "csv", "contract": "a.b", "path": "x"}
    assert CsvSettings.model_validate({**base, "poll_interval": text}).poll_interval.total_seconds() == seconds


def test_a_refused_source_and_too_many_rejects_end_the_run(department: Department) -> None:
    (department.folder / "in/people.csv").write_text("citizen_id,name,NAME\n")
    with pytest.raises(SourceRefused, match=r"people\.csv: .*the column name stands at positions 2 and 3"):
        department.run(once=False)
    (department.folder / "in/people.csv").write_text("citizen_id,name\n" + "x,y\n" * 5)
    with pytest.raises(TooManyRejects):
        department.run(once=False)
    assert "too many rejects" in str(read_status(department.cursor).readings[0].note)


# -- commands --


def invoke(department: Department, *arguments: str) -> Any:
    result = CliRunner().invoke(app, [*arguments, "-c", str(department.folder / "exchange.toml")])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_check_says_whether_it_can_run(department: Department) -> None:
    result = invoke(department, "check", str(department.file), "--json")
    (told,) = json.loads(result.stdout)
    assert (told["source"], told["ok"], result.exit_code) == ("civil/people", True, 0)
    assert told["findings"] == [
        {"weight": "note", "subject": "people.csv", "text": "utf-8, 2 columns, 2 fields mapped"}
    ]
    (department.folder / "in/people.csv").write_bytes("citizen_id,name\n".encode("utf-16"))
    result = invoke(department, "check", str(department.file))
    assert result.exit_code == 65
    assert "cannot run" in result.stdout
    assert "save it as UTF-8" in result.stdout


def test_status_shows_where_every_row_went(department: Department) -> None:
    department.run()
    department.write(1, 1, 4)
    department.run()
    result = invoke(department, "status", str(department.file))
    assert (
        "3 rows in = 1 published + 2 unchanged + 0 deleted + 0 rejected; 2 no longer in the snapshot" in result.stdout
    )
    (told,) = json.loads(invoke(department, "status", str(department.file), "--json").stdout)
    assert told["source"] == "civil/people"
    assert told["entries"] == 2
    assert [reading["outcome"]["read"] for reading in told["readings"]] == [3, 3]


# -- as a process --


class _Gateway(BaseHTTPRequestHandler):
    """A token endpoint and a registry in the form of Confluent's."""

    registry = FakeRegistry()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/oauth/token":
            return self._answer(200, {"access_token": "t0ken", "expires_in": 300, "token_type": "Bearer"})
        if self.headers["Authorization"] != "Bearer t0ken":
            return self._answer(401, {"error_code": 40101, "message": "Unauthorized"})
        subject, text = self.path.split("/")[3], json.loads(body)["schema"]
        if self.path.endswith("/versions"):
            return self._answer(200, {"id": self.registry.register(subject, text)})
        found = self.registry.lookup(subject, text)
        if found is None:
            return self._answer(404, {"error_code": 40403, "message": "Schema not found"})
        return self._answer(200, {"subject": subject, "id": found, "version": 1, "schema": text})

    def _answer(self, status: int, document: dict[str, Any]) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def gateway() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Gateway)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_process_finishes_its_batch_when_it_is_told_to_stop(tmp_path: Path, gateway: int) -> None:
    department = Department(tmp_path)
    department.file.write_text(INSTANCE + REGISTRY.format(port=gateway))
    department.write(*range(1, 120))
    command = [
        sys.executable,
        "-m",
        "exchange.cli",
        "connector",
        "run",
        str(department.file),
        "-c",
        str(tmp_path / "exchange.toml"),
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"CIVIL_SECRET": "s3cret"}
    )
    try:
        _until(lambda: _published(department) > 3, 30)
        process.send_signal(signal.SIGTERM)
        out, errors = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, errors
    assert "s3cret" not in out + errors
    status = read_status(department.cursor)
    assert status.doubtful == 0  # what was begun was finished
    assert status.entries == _published(department)


def _readings(department: Department) -> list[PastReading]:
    try:
        return read_status(department.cursor, 50).readings
    except NotFound:
        return []


def _published(department: Department) -> int:
    return sum(past.outcome.published for past in _readings(department))


def _until(condition: Any, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# -- what it is told and tells --


def test_a_token_is_fetched_once_and_again_before_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    now, calls = [0.0], []

    def post(url: str, **call: Any) -> httpx2.Response:
        calls.append((url, call["auth"], call["data"]))
        return httpx2.Response(200, json={"access_token": f"t{len(calls)}", "expires_in": 300})

    monkeypatch.setattr(httpx2, "post", post)
    token = ClientCredentials(
        "http://gateway/oauth/token", ClientSecret("civil", "s3cret"), "registry", monotonic=lambda: now[0]
    )
    assert (token(), token()) == ("t1", "t1")
    now[0] = 271
    assert token() == "t2"
    assert calls[0] == (
        "http://gateway/oauth/token", ("civil", "s3cret"), {"grant_type": "client_credentials", "scope": "registry"}
    )  # fmt: skip


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, {"error": "invalid_client"}, SettingWrong),
        (200, {"token_type": "Bearer"}, IssuerUnavailable),
        (503, {}, IssuerUnavailable),
        (200, "<html>", IssuerUnavailable),
        (None, None, IssuerUnavailable),
    ],
)
def test_a_token_endpoint_that_refuses_or_fails(
    monkeypatch: pytest.MonkeyPatch, status: int | None, body: Any, error: type[Exception]
) -> None:
    def post(url: str, **_: Any) -> httpx2.Response:
        if status is None:
            raise httpx2.ConnectError("refused")
        return httpx2.Response(status, text=body) if isinstance(body, str) else httpx2.Response(status, json=body)

    monkeypatch.setattr(httpx2, "post", post)
    with pytest.raises(error) as raised:
        ClientCredentials("http://gateway/oauth/token", ClientSecret("civil", "s3cret"), "registry")()
    assert "s3cret" not in str(raised.value)


def test_the_registry_of_an_instance_or_that_of_this_machine(tmp_path: Path) -> None:
    department = Department(tmp_path)
    loaded = runner.Loaded(department.file, department.settings, system_clock)
    with pytest.raises(SettingWrong, match=r"\[registry\] is missing"):
        runner.open_registry(loaded, department.settings)
    secret = tmp_path / "keys/clients/civil-connector"
    secret.parent.mkdir()
    secret.write_text("s3cret")
    secret.chmod(0o600)
    assert runner.open_registry(loaded, department.settings)
    department.file.write_text(INSTANCE + REGISTRY.format(port=1))
    loaded = runner.Loaded(department.file, department.settings, system_clock)
    with pytest.raises(SettingWrong, match="CIVIL_SECRET is not set"):
        runner.open_registry(loaded, department.settings)
    department.file.write_text(INSTANCE + '[registry]\nurl = "http://127.0.0.1:1"\nclient_id = "x"\n')
    with pytest.raises(SettingWrong, match="client_id and client_secret go together"):
        load_instance(department.file)


def test_the_bar_shows_rows_and_rejects() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    report = BarReport("civil/people", console)
    report.batch(Outcome(read=1500, published=1400, rejected=100), 0.5)
    report.reading(Outcome(read=1500, published=1400, rejected=100), NOW, None)
    report.note("people.csv was read to its end")
    report.note("people.csv was read to its end")
    report.note("[bold]people[/]\x07.csv has a strange name")
    report.reading(Outcome(), NOW, None)
    report.reading(Outcome(), NOW, None)
    report.reading(Outcome(read=1, rejected=1), None, "stopped")
    report.close()
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "1400 published + 0 unchanged + 0 deleted + 100 rejected; as of 2026-06-01T12:00:00.000Z" in shown
    assert "not complete: stopped" in shown
    assert shown.count("was read to its end") == 1
    assert shown.count(": 0 rows in") == 1
    assert "[bold]people[/]\\u0007.csv has a strange name" in shown


def test_polls_in_which_nothing_happens_fill_no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    now, stream = [100.0], io.StringIO()
    monkeypatch.setattr("connectors.reporting.time.monotonic", lambda: now[0])
    report = JsonReport("civil/people", stream)
    for _ in range(5):
        now[0] += 60.0  # a poll interval is longer than the time between two lines of progress
        report.batch(Outcome(), None)
        report.reading(Outcome(), NOW, None)
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["reading"]
    report.batch(Outcome(read=1_000, published=1_000), 0.1)
    now[0] += 3.0
    report.batch(Outcome(read=2_000, published=2_000), 0.2)
    assert json.loads(stream.getvalue().splitlines()[-1])["event"] == "progress"
