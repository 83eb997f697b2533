"""The gateway: the HTTP edge. It finds out who asks, reads what was sent, calls the library, and bounds all of it.

In reading order:

    strictjson        JSON that has one meaning, or none
    problems          errors as RFC 9457 problems, from one table
    limits            the outermost layer: sizes, times, request ids, security headers, metrics, the log
    connection        the bounds beneath ASGI: headers that never end, answers that nobody reads
    jws               signed tokens, opened strictly and verified
    discovery         what an issuer says of itself: where its keys are, where it gives tokens
    keysets           issuers' public keys: refresh, the last good ones
    tokens            access tokens checked as RFC 9068 asks
    identity          the Authorization header, the token behind it, the client in our list
    issuer            the built-in token issuer, for one machine
    sketch, harvest   against harvesting: requests under way, and subjects a day, of each client
    statement         purpose, case, officer, trace
    bodies            media types and JSON bodies
    spool, push       a body of many records, and its way into the topic
    trail             what the gateway itself writes to the audit log
    routes            every route with what OpenAPI says of it
    openapi           the document
    app               all of these as one application
    parts             the parts made from the settings: `create_app`
    metrics_listener, server   the process with its two listeners
    commands          `exchange gateway`

docs/http.md is the same for those who call it.
"""
