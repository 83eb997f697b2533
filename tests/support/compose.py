"""What docker-compose.yml says, held against what it names: a list of what does not fit.

There is no container engine in it. Each rule reads the same files that the containers would.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import typer.main
import yaml

from exchange.cli import build
from exchange.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
OURS = "exchange:local"
MADE = {"keys", "public-keys"}  # by the service `init`
_ADDRESS = re.compile(r"(?<![\w.@-])([a-z][a-z0-9-]+):([0-9]{2,5})(?![\w.-])")
_VARIABLE = re.compile(r"(?<!\$)\$\{([A-Z_]+)")
_ALWAYS = {"postgres": {5432}, "keycloak": {8080, 9000}, "prometheus": {9090}, "grafana": {3000}}  # by their makers
_NO_SERVICE = {"localhost"}

Document = Mapping[str, Any]


def load() -> dict[str, Any]:
    """docker-compose.yml, as it is."""
    document: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    return document


def problems(document: Document) -> list[str]:
    """Everything that does not fit."""
    rules = (_paths, _images, _commands, _variables, _settings, _addresses, _published, _guards, _dependencies)
    return [problem for rule in rules for problem in rule(document)]


def mounts(service: Document) -> dict[str, str]:
    """Where each path or volume is mounted, by place in the container."""
    found = (volume.split(":") for volume in service.get("volumes", []))
    return {parts[1]: parts[0] for parts in found}


def ours(document: Document) -> dict[str, Document]:
    """The services that run our image."""
    return {name: each for name, each in document["services"].items() if each["image"] == OURS}


def settings() -> Settings:
    """Those of all containers of ours."""
    return Settings.load(ROOT / "deploy/compose/exchange.toml")


def instances() -> dict[str, Document]:
    """The connectors' instance files, by their name in the container."""
    files = (ROOT / "deploy/compose/connectors.d").glob("*.toml")
    return {f"/etc/exchange/connectors.d/{file.name}": tomllib.loads(file.read_text("utf-8")) for file in files}


def _paths(document: Document) -> Iterator[str]:
    declared, used = set(document["volumes"]), set()
    for name, service in document["services"].items():
        for target, source in mounts(service).items():
            if source.startswith("."):
                if not (ROOT / source).exists():
                    yield f"{name}: {source} does not exist"
            elif source not in declared:
                yield f"{name}: there is no volume {source}"
            else:
                used.add(source)
            if not target.startswith("/"):
                yield f"{name}: {target} is no place"
    yield from (f"no service has the volume {volume}" for volume in declared - used)


def _images(document: Document) -> Iterator[str]:
    pinned = {
        "apache/kafka": _pom("pom.xml", "kafka"),
        "quay.io/keycloak/keycloak": _pom("pom-keycloak.xml", "keycloak"),
    }
    for name, service in document["services"].items():
        image, _, tag = service["image"].rpartition(":")
        if not tag or tag == "latest":
            yield f"{name}: {service['image']} names no version"
        if image in pinned and tag != pinned[image]:
            yield f"{name}: {tag} is not the version that is tried here, {pinned[image]}"


def _pom(file: str, artifact: str) -> str:
    space = "{http://maven.apache.org/POM/4.0.0}"
    for each in ElementTree.parse(ROOT / "deploy/local" / file).iter(f"{space}dependency"):
        if str(each.findtext(f"{space}artifactId")).startswith(artifact):
            return str(each.findtext(f"{space}version"))
    raise AssertionError(file)


def _commands(document: Document) -> Iterator[str]:
    for name, service in ours(document).items():
        if "entrypoint" in service:
            script = service["entrypoint"][-1]
            if script not in mounts(service):
                yield f"{name}: {script} is not mounted"
            continue
        words = shlex.join(service["command"]).split()
        command: Any = typer.main.get_command(build())
        while words and hasattr(command, "commands"):
            word = words.pop(0)
            if word not in command.commands:
                yield f"{name}: there is no command {word}"
                break
            command = command.commands[word]
        else:
            if hasattr(command, "commands"):
                yield f"{name}: a command is missing"
            for word in words:
                if word.startswith("/") and word not in instances():
                    yield f"{name}: {word} is no instance file"


def _variables(document: Document) -> Iterator[str]:
    given = dict(
        line.split("=", 1)
        for line in (ROOT / "deploy/compose/example.env").read_text("utf-8").splitlines()
        if line and not line.startswith("#")
    )
    wanted = set(_VARIABLE.findall(yaml.safe_dump(dict(document))))
    yield from (f"example.env does not have {name}" for name in wanted - set(given))
    yield from (f"{name} of example.env is used nowhere" for name in set(given) - wanted)
    yield from (f"{name} of example.env has a value" for name, value in given.items() if value)
    for name, service in document["services"].items():
        for variable, value in service.get("environment", {}).items():
            if "PASSWORD" in variable and not str(value).startswith("${"):
                yield f"{name}: {variable} is written out"


def _settings(document: Document) -> Iterator[str]:
    known = settings()
    for name, service in ours(document).items():
        for variable in service.get("environment", {}):
            part: Any = known
            for word in variable.removeprefix("EXCHANGE_").lower().split("__"):
                part = getattr(part, word, None)
            if not variable.startswith("EXCHANGE_") or part is None:
                yield f"{name}: {variable} is no setting"
        where = mounts(service)
        if "/etc/exchange/exchange.toml" not in where:
            yield f"{name}: has not the settings"
        if "/etc/exchange/keys" not in where:
            yield f"{name}: has not the keys"
        writes = service.get("command", [""])[0] in ("gateway", "materialise", "connector", "doctor")
        if writes and str(known.data) not in where:
            yield f"{name}: {known.data} is no volume"
    writers = [
        service["environment"].get("EXCHANGE_AUDIT__WRITER")
        for service in ours(document).values()
        if service.get("command") == ["gateway"]
    ]
    if len(set(writers)) < len(writers) or None in writers:
        yield "two gateways have one name in the audit log"


def _addresses(document: Document) -> Iterator[str]:
    listening = _listening(document)
    texts = {
        "docker-compose.yml": yaml.safe_dump({
            name: {key: value for key, value in service.items() if key not in ("image", "ports", "volumes")}
            for name, service in document["services"].items()
        }),
        **{
            str(file.relative_to(ROOT)): re.sub(r"#.*", "", file.read_text("utf-8"))
            for pattern in (
                "deploy/compose/exchange.toml", "deploy/compose/connectors.d/*", "deploy/nginx/gateways.conf",
                "deploy/prometheus/prometheus.yml", "deploy/grafana/provisioning/*/*",
            )
            for file in ROOT.glob(pattern)
        },
    }  # fmt: skip
    for where, text in texts.items():
        for host, port in _ADDRESS.findall(text):
            if host not in _NO_SERVICE and int(port) not in listening.get(host, set()):
                yield f"{where}: nobody listens at {host}:{port}"


def _listening(document: Document) -> dict[str, set[int]]:
    known = settings()
    found: dict[str, set[int]] = {}
    for name, service in document["services"].items():
        environment, command = service.get("environment", {}), service.get("command") or [""]
        ports = set(_ALWAYS.get(name, set()))
        if "KAFKA_LISTENERS" in environment:
            ports |= {int(port) for port in re.findall(r":(\d+)", environment["KAFKA_LISTENERS"])}
        if command == ["gateway"]:
            ports |= {known.gateway.port, known.gateway.metrics_port}
        if command == ["materialise"]:
            ports.add(known.materialise.metrics_port)
        if command[0] == "connector":
            ports.add(instances().get(command[-1], {}).get("metrics_port", 0))
        for file in mounts(service).values():
            if file.endswith(".conf"):
                ports |= {int(port) for port in re.findall(r"listen (\d+);", (ROOT / file).read_text("utf-8"))}
        found[name] = ports
    return found


def _published(document: Document) -> Iterator[str]:
    listening = _listening(document)
    taken: set[str] = set()
    for name, service in document["services"].items():
        for published in service.get("ports", []):
            host, outer, inner = published.split(":")
            if host != "127.0.0.1":
                yield f"{name}: {published} is open to everybody"
            if int(inner) not in listening[name]:
                yield f"{name}: nobody listens at {inner}"
            if outer in taken:
                yield f"{name}: {outer} is taken"
            taken.add(outer)


def _guards(document: Document) -> Iterator[str]:
    for name, service in ours(document).items():
        if not (service.get("read_only") and service.get("cap_drop") == ["ALL"]):
            yield f"{name}: may write to its root, or has capabilities"
        if any(target == "/etc/exchange/keys" for target in mounts(service)) and name != "init":
            (keys,) = [volume for volume in service["volumes"] if ":/etc/exchange/keys" in volume]
            if not keys.endswith(":ro"):
                yield f"{name}: may write keys"


def _dependencies(document: Document) -> Iterator[str]:
    for name, service in document["services"].items():
        for other, how in service.get("depends_on", {}).items():
            depended = document["services"].get(other)
            if depended is None:
                yield f"{name}: depends on {other}, which is none"
            elif how["condition"] == "service_healthy" and "healthcheck" not in depended:
                yield f"{name}: {other} never tells that it is well"
            elif how["condition"] == "service_completed_successfully" and depended.get("restart") != "no":
                yield f"{name}: {other} does not end"
