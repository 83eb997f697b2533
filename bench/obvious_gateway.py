"""The obvious way to a gateway: what one writes with the documentation of the libraries at hand.

FastAPI with dependencies; the token is verified on each request, the permissions are looked up in an indexed table,
each permitted contract is one query, the merge is done in dicts, and one audit row is committed before the answer. It
gives the same answers as the gateway to the same requests; of receipts, lists, masks, row conditions, guardrails and
bounds on what may be sent it has nothing.

    BENCH_GATEWAY='{"database": ..., "jwks": ..., ...}' uvicorn --factory bench.obvious_gateway:create_app
"""

from __future__ import annotations

import json
import os
import unicodedata
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import Depends, FastAPI, Header, HTTPException, Request
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from pydantic import BaseModel, Field
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from bench.obvious_materialise import facets, metadata
from exchange.errors import InvalidIdentifier
from exchange.records import rfc3339
from exchange.subjects import KeyMaker, parse


class Base(DeclarativeBase):
    metadata = metadata


class Permission(Base):
    """What a client may see of a contract for a purpose. `fields`: name -> {concept, leads}."""

    __tablename__ = "permissions"
    client_id: Mapped[str] = mapped_column(primary_key=True)
    purpose: Mapped[str] = mapped_column(primary_key=True)
    contract: Mapped[str] = mapped_column(primary_key=True)
    major: Mapped[int]
    department: Mapped[str]
    cycle_s: Mapped[int]
    fields: Mapped[dict[str, Any]] = mapped_column(JSONB)


class Watermark(Base):
    """Until when a source has told everything about a contract."""

    __tablename__ = "watermarks"
    contract: Mapped[str] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(primary_key=True)
    as_of: Mapped[datetime] = mapped_column(sa.DateTime(timezone=True))


class Audit(Base):
    """One access."""

    __tablename__ = "audit"
    id: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True)
    at: Mapped[datetime] = mapped_column(sa.DateTime(timezone=True))
    client_id: Mapped[str]
    purpose: Mapped[str]
    subject_key: Mapped[str]
    contracts: Mapped[dict[str, Any]] = mapped_column(JSONB)
    request_id: Mapped[str]
    outcome: Mapped[str]


# The facet of one contract, with the watermark of its source.
FACET = (
    sa.select(facets.c.payload, facets.c.version, facets.c.sequence, facets.c.event_time, Watermark.as_of)
    .outerjoin(Watermark, (Watermark.contract == facets.c.contract) & (Watermark.source == facets.c.source))
    .where(
        facets.c.subject_key == sa.bindparam("subject_key"),
        facets.c.contract == sa.bindparam("contract"),
        facets.c.major == sa.bindparam("major"),
        facets.c.payload.is_not(None),
    )
)
PERMITTED = (
    sa.select(Permission)
    .where(Permission.client_id == sa.bindparam("client_id"), Permission.purpose == sa.bindparam("purpose"))
    .order_by(Permission.contract)
)


class Asked(BaseModel):
    id: str = Field(max_length=64)
    contracts: list[str] | None = None


@dataclass(frozen=True)
class Settings:
    database: str
    jwks: dict[str, Any]
    issuer: str
    audience: str
    kid: str
    secret: str


async def session(request: Request) -> AsyncIterator[AsyncSession]:
    async with request.app.state.sessions() as opened:
        yield opened


async def client(request: Request, authorization: Annotated[str, Header()]) -> str:
    """The client that the token names."""
    state = request.app.state
    try:
        token = jwt.decode(authorization.removeprefix("Bearer "), state.keyset, algorithms=["Ed25519", "ES256"])
        state.claims.validate(token.claims)
    except (JoseError, ValueError):
        raise HTTPException(401, "the access token is not valid", {"WWW-Authenticate": "Bearer"}) from None
    if token.header.get("typ") != "at+jwt" or "view" not in token.claims["scope"].split():
        raise HTTPException(403, "the token does not allow this")
    return str(token.claims["client_id"])


async def permissions(
    opened: Annotated[AsyncSession, Depends(session)],
    client_id: Annotated[str, Depends(client)],
    exchange_purpose: Annotated[str, Header()],
) -> list[Permission]:
    """What the client may see for this purpose, contract by contract."""
    return list(await opened.scalars(PERMITTED, {"client_id": client_id, "purpose": exchange_purpose}))


async def view(
    asked: Asked,
    request: Request,
    opened: Annotated[AsyncSession, Depends(session)],
    client_id: Annotated[str, Depends(client)],
    permitted: Annotated[list[Permission], Depends(permissions)],
    exchange_purpose: Annotated[str, Header()],
) -> dict[str, Any]:
    """One citizen, merged from all that the client may see."""
    try:
        subject_key = request.app.state.keys.subject(parse("cn.ric", asked.id))
    except InvalidIdentifier as error:
        raise HTTPException(422, error.reason) from None
    chosen = [one for one in permitted if asked.contracts is None or one.contract in asked.contracts]
    audit = Audit(
        at=datetime.now(UTC),
        client_id=client_id,
        purpose=exchange_purpose,
        subject_key=subject_key,
        contracts={one.contract: list(one.fields) for one in chosen},
        request_id=str(uuid.uuid4()),
        outcome="served" if chosen else "refused",
    )
    opened.add(audit)
    if not chosen:
        await opened.commit()
        raise HTTPException(403, "nothing is permitted")
    said: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for permission in chosen:
        key = {"subject_key": subject_key, "contract": permission.contract, "major": permission.major}
        row = (await opened.execute(FACET, key)).one_or_none()
        if row is not None:
            _collect(said, permission, row)
    await opened.commit()
    missing = set(asked.contracts or ()) - {one.contract for one in chosen}
    return {
        "values": {name: _merged(said[name]) for name in sorted(said)},
        "records": {},
        "not_available": sorted(missing),
    }


def _collect(said: dict[str, list[dict[str, Any]]], permission: Permission, row: sa.Row[Any]) -> None:
    now = datetime.now(UTC)
    origin = {
        "contract": permission.contract,
        "department": permission.department,
        "version": str(row.sequence if row.version is None else row.version),
        "event_time": rfc3339(row.event_time),
        "as_of": None if row.as_of is None else rfc3339(row.as_of),
        "stale": row.as_of is None or now - row.as_of > timedelta(seconds=permission.cycle_s),
    }
    for name, field in permission.fields.items():
        if name in row.payload:
            statement = {"value": row.payload[name], **origin}
            order = (row.payload[name] is None, not field["leads"], -row.event_time.timestamp(), permission.contract)
            said[field["concept"] or f"{permission.contract}.{name}"].append({"order": order, "said": statement})


def _merged(statements: list[dict[str, Any]]) -> dict[str, Any]:
    """The lead source first, then the newest; a conflict is a difference in more than blanks and width."""
    said = [one["said"] for one in sorted(statements, key=lambda one: one["order"])]
    different = {_compared(one["value"]) for one in said if one["value"] is not None}
    return {"value": said[0]["value"], "conflict": len(different) > 1, "said_by": said}


def _compared(value: Any) -> str:
    return "".join(unicodedata.normalize("NFKC", str(value)).split())


def create_app() -> FastAPI:
    settings = Settings(**json.loads(os.environ["BENCH_GATEWAY"]))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        engine = create_async_engine(sa.make_url(settings.database).set(drivername="postgresql+psycopg"))
        app.state.sessions = async_sessionmaker(engine, expire_on_commit=False)
        yield
        await engine.dispose()

    app = FastAPI(lifespan=lifespan)
    app.state.keyset = KeySet.import_key_set(settings.jwks)
    app.state.keys = KeyMaker(settings.kid, settings.secret.encode())
    essential = {"essential": True}
    app.state.claims = jwt.JWTClaimsRegistry(
        iss={**essential, "value": settings.issuer},
        aud={**essential, "value": settings.audience},
        exp=essential,
        scope=essential,
        client_id=essential,
    )
    app.post("/v1/citizens/view")(view)
    return app
