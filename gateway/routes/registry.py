"""The schema registry in the form of Confluent's REST interface.

    registry_form      media type, error codes, request and answer forms
    registry_schemas   schemas by id and guid
    registry_settings  levels and modes
    (here)             subjects: list, register, look up, delete, and verdicts before registering

Whoever has the scope `registry` reads; a department changes its own subjects only, `<department>....`, and each
change stands in the audit log before it takes effect.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request, Response
from starlette.types import Scope

from exchange.agreements import Client
from exchange.errors import ContractRefused, Forbidden
from exchange.registry import StoreRegistry
from exchange.registry.faults import InvalidSchema, SchemaNotFound, SubjectNotFound, VersionNotFound
from exchange.registry.forms import department, plain
from exchange.registry.shelf import Page
from gateway.identity import Caller, Identity
from gateway.limits import note
from gateway.problems import Busy
from gateway.routes import registry_schemas, registry_settings
from gateway.routes.describing import answer
from gateway.routes.registry_form import (
    ERROR_SCHEMA,
    MEDIA,
    STANDING,
    Format,
    Limit,
    Offset,
    answered,
    asked,
    confluent,
    errors,
    raw,
    schema_body,
    standing,
    version_of,
)

PREFIX = "/registry"
AT_ONCE = 2  # verdicts that one process works on; each is of the processor alone
WAITING = 64

Noting = Callable[[Client, Scope, str, Mapping[str, str]], Awaitable[None]]
T = TypeVar("T")

__all__ = ["ERROR_SCHEMA", "MEDIA", "PREFIX", "confluent", "router"]


@dataclass(slots=True)
class Desk:
    """Who may do what, and how it is written down. `noted` writes an act; if it raises, the act must not happen."""

    identity: Identity
    registry: StoreRegistry
    noted: Noting
    turns: asyncio.Semaphore
    waiting: int = 0

    async def reader(self, request: Request) -> Caller:
        """Raises TokenRefused, Forbidden, InsufficientScope."""
        caller = await self.identity.caller(request.scope, basic=True)
        caller.require("registry")
        return caller

    async def owner(self, request: Request, subject: str) -> Caller:
        """The same of someone who may change this subject."""
        caller = await self.reader(request)
        if department(subject) != caller.client.department:
            raise Forbidden("a department changes its own subjects only")
        return caller

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """For what takes time to work out. Raises Busy."""
        if self.waiting >= WAITING:
            raise Busy("schemas that are compared")
        self.waiting += 1
        try:
            async with self.turns:
                yield
        finally:
            self.waiting -= 1


def router(identity: Identity, registry: StoreRegistry, noted: Noting) -> APIRouter:
    """All the registry's calls."""
    desk = Desk(identity, registry, noted, asyncio.Semaphore(AT_ONCE))
    routes = APIRouter(prefix=PREFIX, tags=["registry"], default_response_class=Response)
    _listing(routes, desk)
    _registering(routes, desk)
    _deleting(routes, desk)
    registry_schemas.add(routes, desk)
    registry_settings.add(routes, desk)
    return routes


def _listing(routes: APIRouter, desk: Desk) -> None:
    shelf = desk.registry.shelf

    @routes.get("/subjects", summary="List subjects", responses=_shown(["market.registration.inbox-value"]))
    async def subjects(
        request: Request,
        subjectPrefix: str = "",  # noqa: N803  Confluent's name
        deleted: bool = False,
        deletedOnly: bool = False,  # noqa: N803
        offset: Offset = 0,
        limit: Limit = -1,
    ) -> Response:
        """The names of all subjects, sorted; at most 5,000 in one answer, then `offset` goes on."""
        await desk.reader(request)
        only = deletedOnly or request.query_params.get("deleted_only", "").lower() == "true"  # as one client writes it
        prefix = plain(subjectPrefix).removeprefix(":*:")
        return answered(await _thread(shelf.subjects, prefix, Page(offset, limit), deleted=deleted, only=only))

    @routes.get("/subjects/{subject}/versions", summary="List versions", responses=_shown([1, 2], 404))
    async def numbers(
        request: Request,
        subject: str,
        deleted: bool = False,
        deletedOnly: bool = False,  # noqa: N803
        offset: Offset = 0,
        limit: Limit = -1,
    ) -> Response:
        """The numbers of a subject's versions."""
        await desk.reader(request)
        only = deletedOnly or request.query_params.get("deleted_only", "").lower() == "true"
        page = Page(offset, limit)
        return answered(await _thread(shelf.versions, plain(subject), page, deleted=deleted, only=only))

    @routes.get(
        "/subjects/{subject}/versions/{version}", summary="Read a version", responses=_shown(STANDING, 404, 422)
    )
    async def version(
        request: Request, subject: str, version: str, deleted: bool = False, shape: Format = ""
    ) -> Response:
        """A schema as it stands under a subject; `latest` or -1 is the newest version."""
        await desk.reader(request)
        found = await _thread(shelf.version, plain(subject), version_of(version), deleted=deleted)
        told = standing(found)
        if shape == registry_schemas.RESOLVED:
            async with desk.turn():
                told["schema"] = await _thread(shelf.resolved, found.form)
        return answered(told)

    @routes.get(
        "/subjects/{subject}/versions/{version}/schema", summary="Read a version's text", responses=_shown({}, 404, 422)
    )
    async def text(request: Request, subject: str, version: str, deleted: bool = False) -> Response:
        """The schema alone."""
        await desk.reader(request)
        found = await _thread(shelf.version, plain(subject), version_of(version), deleted=deleted)
        return raw(found.form.text)

    @routes.get(
        "/subjects/{subject}/versions/{version}/referencedby",
        summary="Who refers to a version",
        responses=_shown([7], 404, 422),
    )
    async def referenced(
        request: Request, subject: str, version: str, deleted: bool = False, offset: Offset = 0, limit: Limit = -1
    ) -> Response:
        """The ids of the schemas that use its types."""
        await desk.reader(request)
        page = Page(offset, limit)
        return answered(await _thread(shelf.referrers, plain(subject), version_of(version), page, deleted=deleted))

    @routes.get("/subjects/{subject}/metadata", summary="Find by metadata", responses=_shown(STANDING, 404))
    async def metadata(
        request: Request,
        subject: str,
        key: Annotated[list[str] | None, Query(max_length=20)] = None,
        value: Annotated[list[str] | None, Query(max_length=20)] = None,
        deleted: bool = False,
    ) -> Response:
        """The newest version whose metadata has these properties."""
        await desk.reader(request)
        wanted = list(zip(key or (), value or (), strict=False))
        return answered(standing(await _thread(shelf.with_metadata, plain(subject), wanted, deleted=deleted)))


def _registering(routes: APIRouter, desk: Desk) -> None:
    registry = desk.registry

    @routes.post(
        "/subjects/{subject}/versions",
        summary="Register a schema",
        responses=_shown({"id": 7, "version": 1, "guid": STANDING["guid"]}, 404, 409, 422),
        openapi_extra=schema_body(),
    )
    async def register(request: Request, subject: str, normalize: bool = False) -> Response:
        """Register a schema under its subject, unless its level forbids it (409). The same schema has the same id."""
        subject = plain(subject)
        caller = await desk.owner(request, subject)
        wanted = await asked(request, normalize=normalize)
        async with desk.turn():
            prepared = await _thread(registry.prepare, subject, wanted)
            found = prepared.found
            if found is None:
                await desk.noted(caller.client, request.scope, "register", {"subject": subject})
                found = await _thread(registry.carry_out, prepared)
                note(request.scope, schema_id=found.id)
        told = standing(found)
        del told["subject"]
        return answered(told)

    @routes.post(
        "/subjects/{subject}",
        summary="Look a schema up",
        responses=_shown(STANDING, 404, 422),
        openapi_extra=schema_body(),
    )
    async def lookup(request: Request, subject: str, normalize: bool = False, deleted: bool = False) -> Response:
        """Whether a schema is registered under a subject, and under which id and version."""
        await desk.reader(request)
        subject = plain(subject)
        wanted = await asked(request, normalize=normalize)
        async with desk.turn():
            found = await _thread(registry.find_form, subject, wanted.form, normalize=wanted.normalize, deleted=deleted)
        if found is not None:
            return answered(standing(found))
        raise SchemaNotFound if await _thread(registry.shelf.exists, subject, deleted=deleted) else SubjectNotFound

    @routes.post(
        "/compatibility/subjects/{subject}/versions/{version}",
        summary="Would a schema be compatible with a version?",
        responses=_shown({"is_compatible": True}, 404, 422),
        openapi_extra=schema_body(),
    )
    async def against_one(
        request: Request, subject: str, version: str, normalize: bool = False, verbose: bool = False
    ) -> Response:
        """The verdict of the subject's level against one version; against the newest of none it is yes."""
        await desk.reader(request)
        subject, number = plain(subject), version_of(version)
        try:
            number = (await _thread(registry.shelf.version, subject, number)).version
        except SubjectNotFound:
            if number is not None:
                raise VersionNotFound from None
            number = 0  # there is none
        return await _verdict(request, subject, number, normalize=normalize, verbose=verbose)

    @routes.post(
        "/compatibility/subjects/{subject}/versions",
        summary="Would a schema be taken?",
        responses=_shown({"is_compatible": False, "messages": ["..."]}, 422),
        openapi_extra=schema_body(),
    )
    async def against_all(request: Request, subject: str, normalize: bool = False, verbose: bool = False) -> Response:
        """The verdict that registering would get."""
        await desk.reader(request)
        return await _verdict(request, plain(subject), None, normalize=normalize, verbose=verbose)

    async def _verdict(
        request: Request, subject: str, version: int | None, *, normalize: bool, verbose: bool
    ) -> Response:
        wanted = await asked(request, normalize=normalize)
        async with desk.turn():
            try:
                found = await _thread(registry.verdict, subject, wanted.form, version, normalize=wanted.normalize)
            except (ContractRefused, InvalidSchema) as refused:
                if not verbose:
                    raise
                found = [refused.detail]
        told: dict[str, Any] = {"is_compatible": not found}
        return answered(told | ({"messages": found[:100]} if verbose else {}))


def _deleting(routes: APIRouter, desk: Desk) -> None:
    striking = desk.registry.striking

    @routes.delete("/subjects/{subject}", summary="Delete a subject", responses=_shown([1, 2], 404, 422))
    async def subject_(request: Request, subject: str, permanent: bool = False) -> Response:
        """Hide all its versions; then, with `permanent`, delete them for good. Not of a contract."""
        subject = plain(subject)
        caller = await desk.owner(request, subject)
        await _thread(striking.check_subject, subject, permanent=permanent)
        await desk.noted(caller.client, request.scope, _act(permanent), {"subject": subject})
        return answered(await _thread(striking.subject, subject, permanent=permanent))

    @routes.delete("/subjects/{subject}/versions/{version}", summary="Delete a version", responses=_shown(1, 404, 422))
    async def version_(request: Request, subject: str, version: str, permanent: bool = False) -> Response:
        """Hide a version; then, with `permanent`, delete it for good. Not of a contract, nor what is referred to."""
        subject = plain(subject)
        caller = await desk.owner(request, subject)
        number = version_of(version)
        struck = await _thread(striking.check_version, subject, number, permanent=permanent)
        details = {"subject": subject, "version": str(struck)}
        await desk.noted(caller.client, request.scope, _act(permanent), details)
        return answered(await _thread(striking.version, subject, struck, permanent=permanent))


def _act(permanent: bool) -> str:
    return "schema delete permanent" if permanent else "schema delete"


def _shown(example: Any, *statuses: int) -> dict[int | str, dict[str, Any]]:
    return {200: answer("As Confluent's registry answers.", example, MEDIA), **errors(*statuses)}


async def _thread(call: Callable[..., T], *given: Any, **named: Any) -> T:
    return await asyncio.to_thread(partial(call, *given, **named))
