"""What each kind of problem means, and what to do: the page behind its `type`, here and in docs/errors.

The table in gateway.problems has status, title and one sentence of advice; a test says that none is missing here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Explanation:
    """`when` it is answered, in paragraphs; `steps` that help, beside the advice of the table."""

    when: str
    steps: tuple[str, ...]


EXPLANATIONS: Mapping[str, Explanation] = {
    "bad-request": Explanation(
        "A header or the body cannot be understood. The detail names which header, or what about the body: it is "
        "not JSON, or it is JSON that two readers could take in two ways (two members of one name, NaN, half of a"
        " surrogate pair, nesting deeper than 32 levels).",
        (
            "`Exchange-Purpose` must be one of the registered purposes, byte for byte, in one header line.",
            "`Exchange-Case` takes 1 to 64 of `A-Z a-z 0-9 . _ / -` and must not hold anybody's number.",
            (
                "`Exchange-On-Behalf-Of` takes at most 64 characters; where the token names a person, it must name "
                "the same one or be left out."
            ),
            "`Idempotency-Key` takes 1 to 255 visible ASCII characters.",
        ),
    ),
    "unauthenticated": Explanation(
        "There is no access token, or it is not valid. `WWW-Authenticate` says which of the two (RFC 6750): "
        "without `error` no token was sent, `invalid_request` the header is malformed, `invalid_token` the token "
        "itself.\n\n"
        "A token that no known issuer has signed is told nothing more. An authentic one is told which claim "
        "fails: it has expired, it is not for this gateway (`aud`), it names no client, it lives longer than the "
        "issuer may grant.\n\n"
        "A token that is bound to a key needs a DPoP proof, or its certificate; `WWW-Authenticate: DPoP` has "
        "`invalid_dpop_proof` or `use_dpop_nonce` then, and the detail says which check failed "
        "(docs/http.md#tokens-that-are-bound-to-a-key).",
        (
            (
                "Send one header `Authorization: Bearer <token>`, with a single blank. Tokens in the URL are not "
                "looked at."
            ),
            "Keycloak: without an audience mapper `aud` is `account`; add a mapper for this gateway's audience.",
            "`iss` is compared exactly, a final slash included.",
            "Clocks may differ by ten seconds.",
            "`use_dpop_nonce`: make a new proof with the nonce of the header `DPoP-Nonce`, and send the request again.",
            (
                "A proof's `htu` that is refused behind a proxy: the operator sets `gateway.public_url` to the "
                "address that clients call."
            ),
            "A certificate that does not arrive: the proxy's address must stand in `gateway.client_cert_peers`.",
        ),
    ),
    "forbidden": Explanation(
        "The client is known to its issuer, but may not do this here: it does not stand in "
        "`policies/clients.toml`, or it tried to publish or register for another department.",
        (
            "Compare issuer and client id with `clients.toml`, letter for letter.",
            (
                "A department publishes and registers its own contracts only. Whether another department's exists is"
                " not told."
            ),
        ),
    ),
    "nothing-permitted": Explanation(
        "No contract about such subjects is open to this client for this purpose. The answer is the same for "
        "every subject, known or not.",
        (
            "`exchange policy explain <client> <purpose> <contract>` says what is missing, and who could give it.",
            "Level 3 fields also need a purpose that is registered for the contract, and a case.",
        ),
    ),
    "insufficient-scope": Explanation(
        "The route needs a scope (`view`, `publish` or `registry`) that the token or the client's entry in "
        "`clients.toml` lacks. Both must have it.",
        (
            "Ask the issuer for a token with the scope that `WWW-Authenticate` names.",
            "Have it added to the client in `clients.toml`, and `exchange policy apply` run.",
        ),
    ),
    "not-found": Explanation(
        "There is nothing at this path, or no contract or dataset of this name that takes records.",
        ("`GET /v1/contracts` lists what there is.",),
    ),
    "method-not-allowed": Explanation(
        "The path exists, but not with this method. `Allow` lists those that it has.",
        ("Views are asked for with POST: an identifier never stands in a URL.",),
    ),
    "too-slow": Explanation(
        "The request did not arrive in time: header and body within ten seconds of its first byte; a push may "
        "take longer as long as it brings 64,000 bytes a second after that. The connection is closed.",
        ("Send a large push over a faster line, or in parts.",),
    ),
    "conflict": Explanation(
        "Another request with the same `Idempotency-Key` is being worked on.",
        ("Wait a few seconds and send the same request again: it gets the answer of the first one.",),
    ),
    "incompatible": Explanation(
        "The schema breaks readers of a version that is registered already. The detail lists what breaks.",
        (
            "Keep old fields, give renamed ones an alias, give new ones a default.",
            "Otherwise make it a new major: `<dataset>.v<major>`.",
        ),
    ),
    "body-too-large": Explanation(
        "The body has more than 1 MiB, or a push more than 64 MiB or 100,000 records (`push.records`); nothing of"
        " it was published. The connection is closed.",
        ("Send a push in parts, each with an `Idempotency-Key` of its own.",),
    ),
    "media-type": Explanation(
        "The body's media type is not accepted on this route, its charset is not UTF-8, or it is compressed.",
        (
            (
                "Views take `application/json`; pushes also `application/x-ndjson`, `application/ndjson` and "
                "`application/jsonl`."
            ),
        ),
    ),
    "unprocessable": Explanation(
        "The request can be read but not carried out: an `Idempotency-Key` was used before for another body or "
        "contract, or a schema does not belong to the subject under which it was to be registered.",
        ("Use a new key for a new body.",),
    ),
    "invalid-body": Explanation(
        "The body is JSON, but not of the form that is asked for. `errors` lists where (a JSON pointer, RFC 6901)"
        " and why. A pointer holds only names of ours and positions; a name that was sent and is not known is "
        "never repeated.",
        (
            (
                "A view takes `id`, `contracts`, `fields` and `after`, nothing else. An empty list is refused: leave"
                " it out to ask for all."
            ),
        ),
    ),
    "too-many-rejects": Explanation(
        "More than `push.max_reject_share` of the records that were read so far (and at least `push.min_rejects`)"
        " do not keep the contract, so the push was stopped. What was read until then is published or set aside "
        "and stays so; what stands behind it was not looked at, and no watermark was sent. The problem has the "
        "members of a push's answer, and `stopped_after`, the last line that was read. The same request under the"
        " same `Idempotency-Key` gets this answer again and has no further effect.",
        ("Send the corrected records and the rest under another `Idempotency-Key`: another body needs another key.",),
    ),
    "rejected": Explanation(
        "A value does not keep its contract. In a push this never refuses the request: such a record is set aside"
        " and counted.",
        ("Correct the field that the detail names.",),
    ),
    "invalid-identifier": Explanation(
        "The identifier fails the check of its scheme: its length, its check character (GB 11643, GB 32100), its "
        "date, or it holds a character that is no digit or letter, such as an invisible one. The detail says what"
        " fails and never the value.",
        (
            "Blanks at the ends and small letters are no problem.",
            "An old number of 15 digits is not accepted: ask for the present one of 18.",
        ),
    ),
    "contract-refused": Explanation(
        "The schema is not a contract: the detail lists every reason with its path in the schema.",
        ("docs/contracts.md says what a contract must have.",),
    ),
    "too-many-under-way": Explanation(
        "One client may have so many views and pushes under way at the same time, in each gateway process "
        "(`requests_in_flight`). The header `RateLimit-Policy` has the number.",
        ("Keep fewer connections, and send the same request again after `Retry-After` seconds.",),
    ),
    "subjects-exhausted": Explanation(
        "Each client may see about so many distinct subjects in a day of the city's time zone "
        "(`subjects_per_day`), whether anything is known of them or not; once the number is reached, those it has"
        " seen are refused too, because who they were is kept nowhere. The headers `RateLimit-Policy` and "
        "`RateLimit` of every view tell the number, what is left of it and the seconds until the next day. Each "
        "such refusal is an entry of the audit log.",
        (
            "Look whether the program asks for people whom nobody needs, and whether its token leaked.",
            "An operator gives a client its own number with `subjects_per_day_of`.",
        ),
    ),
    "headers-too-large": Explanation(
        "The request's header, its target included, has more than 16 KiB. The connection is closed.",
        ("Access tokens take at most 8 KiB: leave roles and groups out of them.",),
    ),
    "internal": Explanation(
        "Something went wrong that should not. The answer says no more than that; the gateway's log has the place"
        " under the same request id, also without what was sent.",
        ("Tell the operator the `request_id`.",),
    ),
    "broker-unavailable": Explanation(
        "The broker did not acknowledge. Part of a push may be in the topic all the same; repeating it has no "
        "second effect.",
        ("Send the same request again after `Retry-After` seconds, with the same `Idempotency-Key`.",),
    ),
    "store-unavailable": Explanation(
        "The store cannot be reached.",
        ("Send the same request again after `Retry-After` seconds.",),
    ),
    "registry-unavailable": Explanation(
        "The schema registry cannot be reached.",
        ("Send the same request again after `Retry-After` seconds.",),
    ),
    "audit-unavailable": Explanation(
        "The audit log cannot be written, so nothing is shown: no receipt, no view. Refusals wait for it too.",
        ("Send the same request again after `Retry-After` seconds. `/readyz` is false meanwhile.",),
    ),
    "policy-unavailable": Explanation(
        "The gateway has not been able to confirm for two seconds that it has the newest policies, or none were "
        "applied yet. It does not decide by old ones.",
        (
            "Send the same request again after `Retry-After` seconds.",
            "On a new installation: run `exchange policy apply`.",
        ),
    ),
    "issuer-unavailable": Explanation(
        "The token issuer's keys could not be read: not at all since the start, or not for an hour. Until then "
        "the last good keys count.",
        (
            "Send the same request again after `Retry-After` seconds.",
            (
                "Operators: the gateway's log says why; `issuers.discovery` and `issuers.jwks` say where the keys "
                "are fetched."
            ),
        ),
    ),
    "busy": Explanation(
        "Too many pushes are being published at the same moment, or the bodies under way, those of the department"
        " or all of them, have no room for more (`push.spool_bytes`). Nothing of this one was published.",
        ("Send the same request again after `Retry-After` seconds, with the same `Idempotency-Key`.",),
    ),
    "unavailable": Explanation(
        "A part that is needed is out of reach.",
        ("Send the same request again after `Retry-After` seconds.",),
    ),
}
