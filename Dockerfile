# One image for every part: `exchange gateway`, `exchange materialise`, `exchange connector run`.
FROM python:3.11-slim-trixie AS build
ENV UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1
RUN pip install --no-cache-dir uv==0.13.9
WORKDIR /app
COPY pyproject.toml uv.lock README.md LICENSE ./
RUN uv sync --locked --no-dev --no-install-project
COPY exchange exchange
COPY connectors connectors
COPY gateway gateway
RUN uv sync --locked --no-dev --no-editable

FROM python:3.11-slim-trixie
# pg_dump and pg_restore, for `exchange backup`: not older than the server.
RUN apt-get update && apt-get install -y --no-install-recommends postgresql-client && rm -rf /var/lib/apt/lists/*
# A volume that is mounted on one of these folders for the first time gets its owner.
RUN useradd --system --uid 10001 --home-dir /var/lib/exchange --create-home exchange \
    && mkdir -p /etc/exchange/connectors.d /etc/exchange/keys /var/lib/public-keys \
    && chown exchange /etc/exchange/keys /var/lib/public-keys && chmod 700 /etc/exchange/keys /var/lib/exchange
COPY --from=build /app/.venv /app/.venv
COPY --chown=root:root schemas /etc/exchange/schemas
COPY --chown=root:root policies /etc/exchange/policies
COPY --chown=root:root deploy/compose/exchange.toml /etc/exchange/exchange.toml
ENV PATH=/app/.venv/bin:$PATH EXCHANGE_CONFIG=/etc/exchange/exchange.toml PYTHONUNBUFFERED=1
WORKDIR /var/lib/exchange
USER exchange
ENTRYPOINT ["exchange"]
CMD ["--help"]
