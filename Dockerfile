# One image for every part: `exchange gateway`, `exchange materialise`, `exchange connector run`.
FROM python:3.11-slim-bookworm AS build
ENV UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1
RUN pip install --no-cache-dir uv==0.13.9
WORKDIR /app
COPY pyproject.toml uv.lock README.md LICENSE ./
RUN uv sync --locked --no-dev --no-install-project
COPY exchange exchange
COPY connectors connectors
COPY gateway gateway
RUN uv sync --locked --no-dev --no-editable

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /var/lib/exchange --create-home exchange
COPY --from=build /app/.venv /app/.venv
COPY --chown=root:root schemas /etc/exchange/schemas
COPY --chown=root:root policies /etc/exchange/policies
COPY --chown=root:root deploy/compose/exchange.toml /etc/exchange/exchange.toml
ENV PATH=/app/.venv/bin:$PATH EXCHANGE_CONFIG=/etc/exchange/exchange.toml PYTHONUNBUFFERED=1
USER exchange
ENTRYPOINT ["exchange"]
CMD ["--help"]
