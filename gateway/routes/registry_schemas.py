"""Schemas by id and guid, and what the registry says of itself."""

from __future__ import annotations

import asyncio
from functools import partial
from importlib.metadata import version as installed
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response

from exchange.registry.forms import plain
from exchange.registry.shelf import Page
from gateway.routes.describing import answer
from gateway.routes.registry_form import (
    MEDIA,
    SCHEMA,
    STANDING,
    Format,
    Limit,
    Offset,
    answered,
    errors,
    id_of,
    raw,
    standing,
    told_form,
)

if TYPE_CHECKING:
    from gateway.routes.registry import Desk

RESOLVED = "resolved"  # the one format that changes something: references are written out
CONTEXT = "."


def add(routes: APIRouter, desk: Desk) -> None:
    """Add the calls about schemas."""
    _schemas(routes, desk)
    _itself(routes, desk)


def _schemas(routes: APIRouter, desk: Desk) -> None:
    shelf = desk.registry.shelf

    @routes.get("/schemas/ids/{schema_id}", summary="Read a schema", responses=_shown({"schema": SCHEMA}, 404))
    async def schema(
        request: Request,
        schema_id: str,
        subject: str = "",
        shape: Format = "",
        fetchMaxId: bool = False,  # noqa: N803  Confluent's name
    ) -> Response:
        """What an id stands for."""
        await desk.reader(request)
        form = await asyncio.to_thread(shelf.form, id_of(schema_id))
        text = await _text(form, shape)
        newest = {"maxId": await asyncio.to_thread(desk.registry.newest_id)} if fetchMaxId else {}
        return answered(told_form(form, text) | newest)

    @routes.get("/schemas/ids/{schema_id}/schema", summary="Read a schema's text", responses=_shown({}, 404))
    async def text(request: Request, schema_id: str, shape: Format = "") -> Response:
        """The schema alone."""
        await desk.reader(request)
        return raw(await _text(await asyncio.to_thread(shelf.form, id_of(schema_id)), shape))

    @routes.get("/schemas/ids/{schema_id}/subjects", summary="Subjects of a schema", responses=_shown(["..."], 404))
    async def subjects(
        request: Request,
        schema_id: str,
        subject: str = "",
        deleted: bool = False,
        offset: Offset = 0,
        limit: Limit = -1,
    ) -> Response:
        """The subjects under which a schema stands."""
        found = await _places(request, schema_id, subject, Page(offset, limit), deleted=deleted)
        return answered(list(dict.fromkeys(name for name, _ in found)))

    @routes.get(
        "/schemas/ids/{schema_id}/versions",
        summary="Versions of a schema",
        responses=_shown([{"subject": STANDING["subject"], "version": 1}], 404),
    )
    async def versions(
        request: Request,
        schema_id: str,
        subject: str = "",
        deleted: bool = False,
        offset: Offset = 0,
        limit: Limit = -1,
    ) -> Response:
        """The subjects under which a schema stands, each with its version there."""
        found = await _places(request, schema_id, subject, Page(offset, limit), deleted=deleted)
        return answered([{"subject": name, "version": number} for name, number in found])

    @routes.get("/schemas/guids/{guid}", summary="Read a schema by guid", responses=_shown({"schema": SCHEMA}, 404))
    async def by_guid(request: Request, guid: str, shape: Format = "") -> Response:
        """What a guid stands for, here and wherever the same schema is registered in such a registry."""
        await desk.reader(request)
        _, form = await asyncio.to_thread(shelf.by_guid, guid)
        return answered(told_form(form, await _text(form, shape)))

    @routes.get(
        "/schemas/guids/{guid}/ids", summary="Ids of a guid", responses=_shown([{"context": ".", "id": 7}], 404)
    )
    async def ids(request: Request, guid: str) -> Response:
        """The id of a guid here."""
        await desk.reader(request)
        schema_id, _ = await asyncio.to_thread(shelf.by_guid, guid)
        return answered([{"context": CONTEXT, "id": schema_id}])

    @routes.get("/schemas", summary="List schemas", responses=_shown([STANDING]))
    async def schemas(
        request: Request,
        subjectPrefix: str = "",  # noqa: N803
        deleted: bool = False,
        latestOnly: bool = False,  # noqa: N803
        offset: Offset = 0,
        limit: Limit = -1,
    ) -> Response:
        """Whole versions by subject and number. As many as 4 MiB of text hold, so `offset` counts what was got."""
        await desk.reader(request)
        prefix = plain(subjectPrefix).removeprefix(":*:")
        page = Page(offset, limit)
        found = await asyncio.to_thread(partial(shelf.schemas, prefix, page, deleted=deleted, latest_only=latestOnly))
        return answered([standing(each) for each in found])

    async def _text(form: Any, shape: str) -> str:
        if shape != RESOLVED or not form.references:
            return str(form.text)
        async with desk.turn():
            return await asyncio.to_thread(shelf.resolved, form)

    async def _places(
        request: Request, schema_id: str, subject: str, page: Page, *, deleted: bool
    ) -> list[tuple[str, int]]:
        await desk.reader(request)
        call = partial(shelf.places, id_of(schema_id), plain(subject), page, deleted=deleted)
        return await asyncio.to_thread(call)


def _itself(routes: APIRouter, desk: Desk) -> None:
    async def told(request: Request, document: Any) -> Response:
        await desk.reader(request)
        return answered(document)

    @routes.get("/schemas/types", summary="Kinds of schemas", responses=_shown(["AVRO"]))
    async def types(request: Request) -> Response:
        """The kinds of schemas that are taken."""
        return await told(request, ["AVRO"])

    @routes.get("/contexts", summary="Contexts", responses=_shown([CONTEXT]))
    async def contexts(request: Request) -> Response:
        """The contexts: one."""
        return await told(request, [CONTEXT])

    @routes.get("/", summary="Is it there?", responses=_shown({}))
    async def root(request: Request) -> Response:
        """An empty object."""
        return await told(request, {})

    @routes.get("/v1/metadata/id", summary="The registry's id", responses=_shown({"id": "", "scope": {}}))
    async def cluster(request: Request) -> Response:
        """What this registry calls itself."""
        clusters = {"schema-registry-cluster": "exchange"}
        return await told(request, {"id": "", "scope": {"path": [], "clusters": clusters}})

    @routes.get("/v1/metadata/version", summary="The program's version", responses=_shown({"version": "0.1.0"}))
    async def version(request: Request) -> Response:
        """Which version of this program answers."""
        return await told(request, {"version": installed("exchange-bus"), "commitId": ""})


def _shown(example: Any, *statuses: int) -> dict[int | str, dict[str, Any]]:
    return {200: answer("As Confluent's registry answers.", example, MEDIA), **errors(*statuses)}
