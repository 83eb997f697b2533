"""Levels and modes: for all they are fixed, for a subject its owner chooses."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response

from exchange.errors import Forbidden
from exchange.registry.faults import InvalidLevel, InvalidMode, NotPermitted
from exchange.registry.forms import plain
from exchange.registry.rows import Settings
from exchange.registry.settings import DEFAULT_MODE, MODES
from exchange.registry.verdicts import DEFAULT_LEVEL, LEVELS
from gateway.routes.describing import answer, body
from gateway.routes.registry_form import ACCEPTED, MEDIA, answered, errors, json_object

if TYPE_CHECKING:
    from gateway.routes.registry import Desk

_LEVEL = {"compatibilityLevel": DEFAULT_LEVEL}
_MODE = {"mode": DEFAULT_MODE}
_NEVER = {200: answer("Never: what holds for all is fixed.", {}, MEDIA), **errors()}
_CONFIG_MEMBERS = {"compatibility", "compatibilityLevel", "normalize"}
_LEVEL_BODY = {
    "requestBody": body(
        {
            "type": "object",
            "properties": {
                "compatibility": {"type": "string", "enum": list(LEVELS)},
                "normalize": {"type": "boolean"},
            },
        },
        {"level": {"compatibility": "FULL"}},
        *ACCEPTED,
    )
}
_MODE_BODY = {
    "requestBody": body(
        {"type": "object", "required": ["mode"], "properties": {"mode": {"type": "string", "enum": list(MODES)}}},
        {"mode": {"mode": "READONLY"}},
        *ACCEPTED,
    )
}


def add(routes: APIRouter, desk: Desk) -> None:
    """Add the calls about levels and modes."""
    _levels(routes, desk)
    _modes(routes, desk)

    @routes.put("/config", summary="Not here: the level for all", responses=_NEVER, openapi_extra=_LEVEL_BODY)
    @routes.delete("/config", summary="Not here: the level for all", responses=_NEVER)
    @routes.put("/mode", summary="Not here: the mode for all", responses=_NEVER, openapi_extra=_MODE_BODY)
    @routes.delete("/mode", summary="Not here: the mode for all", responses=_NEVER)
    async def fixed(request: Request) -> Response:
        """It is fixed: 403."""
        await desk.reader(request)
        raise Forbidden("what holds for all subjects is fixed; set it for a subject of your own")


def _levels(routes: APIRouter, desk: Desk) -> None:
    configured = desk.registry.configured

    @routes.get("/config", summary="The level for all", responses=_shown(_LEVEL))
    async def level_for_all(request: Request) -> Response:
        """What holds where nothing else is set."""
        await desk.reader(request)
        return answered(_LEVEL)

    @routes.get("/config/{subject}", summary="A subject's level", responses=_shown(_LEVEL, 404))
    async def level(request: Request, subject: str, defaultToGlobal: bool = False) -> Response:  # noqa: N803
        """Its own; with `defaultToGlobal` what holds for it."""
        await desk.reader(request)
        found = await asyncio.to_thread(partial(configured.level, plain(subject), in_scope=defaultToGlobal))
        return answered(_told(found, "compatibilityLevel"))

    @routes.put(
        "/config/{subject}", summary="Set a subject's level", responses=_shown({"compatibility": "FULL"}, 422),
        openapi_extra=_LEVEL_BODY,
    )  # fmt: skip
    async def set_level(request: Request, subject: str) -> Response:
        """One of the seven levels, and whether texts are normalised. A contract's is BACKWARD_TRANSITIVE for good."""
        subject = plain(subject)
        caller = await desk.owner(request, subject)
        chosen, normalize = _config(await json_object(request))
        await asyncio.to_thread(configured.check_level, subject, chosen, normalize)
        details = {"subject": subject} | ({"level": chosen} if chosen else {})
        details |= {} if normalize is None else {"normalize": str(normalize).lower()}
        await desk.noted(caller.client, request.scope, "schema level", details)
        found = await asyncio.to_thread(configured.set_level, subject, chosen, normalize)
        return answered(_told(found, "compatibility"))

    @routes.delete("/config/{subject}", summary="Drop a subject's level", responses=_shown(_LEVEL, 404))
    async def drop_level(request: Request, subject: str) -> Response:
        """What holds for all holds again; the answer is what was."""
        subject = plain(subject)
        caller = await desk.owner(request, subject)
        former = await asyncio.to_thread(configured.check_own_level, subject)
        await desk.noted(caller.client, request.scope, "schema level", {"subject": subject, "level": "default"})
        await asyncio.to_thread(configured.drop_level, subject)
        return answered(_told(former, "compatibilityLevel"))


def _modes(routes: APIRouter, desk: Desk) -> None:
    configured = desk.registry.configured

    @routes.get("/mode", summary="The mode for all", responses=_shown(_MODE))
    async def mode_for_all(request: Request) -> Response:
        """What holds where nothing else is set."""
        await desk.reader(request)
        return answered(_MODE)

    @routes.get("/mode/{subject}", summary="A subject's mode", responses=_shown(_MODE, 404))
    async def mode(request: Request, subject: str, defaultToGlobal: bool = False) -> Response:  # noqa: N803
        """Its own; with `defaultToGlobal` what holds for it."""
        await desk.reader(request)
        found = await asyncio.to_thread(partial(configured.mode, plain(subject), in_scope=defaultToGlobal))
        return answered({"mode": found})

    @routes.put(
        "/mode/{subject}", summary="Set a subject's mode", responses=_shown(_MODE, 422), openapi_extra=_MODE_BODY
    )
    async def set_mode(request: Request, subject: str, force: bool = False) -> Response:
        """READONLY takes no more schemas; IMPORT takes them with the ids that they had elsewhere."""
        subject = plain(subject)
        caller = await desk.owner(request, subject)
        chosen = (await json_object(request)).get("mode")
        if not isinstance(chosen, str):
            raise InvalidMode(f"one of {', '.join(MODES)}")
        chosen = chosen.upper()
        await asyncio.to_thread(partial(configured.check_mode, subject, chosen, force=force))
        await desk.noted(caller.client, request.scope, "schema mode", {"subject": subject, "mode": chosen})
        await asyncio.to_thread(partial(configured.set_mode, subject, chosen, force=force))
        return answered({"mode": chosen})

    @routes.delete("/mode/{subject}", summary="Drop a subject's mode", responses=_shown(_MODE, 404))
    async def drop_mode(request: Request, subject: str) -> Response:
        """What holds for all holds again; the answer is what was."""
        subject = plain(subject)
        caller = await desk.owner(request, subject)
        former = await asyncio.to_thread(configured.check_own_mode, subject)
        await desk.noted(caller.client, request.scope, "schema mode", {"subject": subject, "mode": "default"})
        await asyncio.to_thread(configured.drop_mode, subject)
        return answered({"mode": former})


def _config(value: dict[str, Any]) -> tuple[str | None, bool | None]:
    """Level and normalising. What a registry would have to do and this one does not is refused, not ignored."""
    if any(found for name, found in value.items() if name not in _CONFIG_MEMBERS):
        raise NotPermitted("only compatibility and normalize can be set here")
    level, normalize = value.get("compatibility") or value.get("compatibilityLevel"), value.get("normalize")
    if (level is None and normalize is None) or not isinstance(level, str | None):
        raise InvalidLevel(f"one of {', '.join(LEVELS)}")
    if not isinstance(normalize, bool | None):
        raise NotPermitted("normalize is true or false")
    return level.upper() if level else None, normalize


def _told(found: Settings, name: str) -> dict[str, Any]:
    told: dict[str, Any] = {} if found.compatibility is None else {name: found.compatibility}
    return told | ({} if found.normalize is None else {"normalize": found.normalize})


def _shown(example: Any, *statuses: int) -> dict[int | str, dict[str, Any]]:
    return {200: answer("As Confluent's registry answers.", example, MEDIA), **errors(*statuses)}
