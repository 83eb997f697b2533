"""Fixtures that every test may use."""

from __future__ import annotations

import pytest

from tests.support.services import fresh_kafka, fresh_postgres, kafka_servers, keycloak_url, postgres_url

__all__ = ["fresh_kafka", "fresh_postgres", "kafka_servers", "keycloak_url", "postgres_url"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
