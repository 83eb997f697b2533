"""Routes: each is a few lines that find out who asks, read what was sent, and call the library.

In reading order:

    describing   what OpenAPI says of every route: problems, headers, examples
    views        POST /v1/citizens/view, POST /v1/enterprises/view
    describing_views  ... and of the views, which FastAPI does not know
    contracts    GET /v1/contracts, GET /v1/contracts/{contract}
    datasets     POST /v1/datasets/{dataset}/records
    registry     the schema registry's three calls, in Confluent's form
    health       GET /healthz, GET /readyz, GET /.well-known/exchange-keys.json
    tokens       the built-in issuer's endpoints, where it runs
    pages        GET /docs, GET /openapi.json, GET /errors/{slug}

Each room has a function `router(...)` that is given what its routes call.
"""
