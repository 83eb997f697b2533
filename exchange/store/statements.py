"""The hot statements, each with its sentence: written out for each database, as SQLAlchemy's way to them costs more.

Look-ups name one index entry for each identity (LATERAL with LIMIT on PostgreSQL, CROSS JOIN on SQLite). Left to
themselves, the planners would read the whole table for a large batch.
"""
# ruff: noqa: S608 - they are put together from constants of this module and from the names of declared columns

from __future__ import annotations

from exchange.store.tables import facets

_NAMES = [column.name for column in facets.columns]
_KEY = [column.name for column in facets.primary_key.columns]
_PLACE = "payload IS NULL, schema_id, source, epoch, sequence, log_partition, log_offset, version, event_time, heard"
_REPLACE = f"ON CONFLICT ({', '.join(_KEY)}) DO UPDATE SET " + ", ".join(
    f"{name} = excluded.{name}" for name in _NAMES if name not in _KEY
)

# The columns of a whole row, in the table's order, those of them that are there to be shown, and PostgreSQL's types.
FACET = ", ".join(_NAMES)
SHOWN = ", ".join(name for name in _NAMES if name != "heard")
FACET_TYPES = [{"TEXT": "text", "INTEGER": "int4", "BIGINT": "int8"}[str(column.type)] for column in facets.columns]

# --- the materialiser's -----------------------------------------------------------------------------------------------

# What stands under these identities, for the order rule: the index of the identity, whether it is a tombstone, and
# where the record came from. SQLite takes the identities as one JSON array, PostgreSQL each column as one text with
# commas between (an array is longer in the making), and the few (contract, major) apart, by their numbers.
_SQLITE_LOOK_UP = f"""
    SELECT wanted.key, {{columns}}
      FROM json_each(?) AS wanted CROSS JOIN facets AS f
        ON {" AND ".join(f"f.{name} = wanted.value ->> {at}" for at, name in enumerate(_KEY))}"""
_POSTGRES_LOOK_UP = """
    SELECT wanted.n - 1, facet.*
      FROM unnest(string_to_array(%b::text, ','), string_to_array(%b::text, ','),
                  string_to_array(%b::text, ',')::int4[])
           WITH ORDINALITY AS wanted (subject_key, record_key, topic, n)
     CROSS JOIN LATERAL (
           SELECT {columns} FROM facets AS f
            WHERE f.subject_key = wanted.subject_key AND f.contract = (%b::text[])[wanted.topic]
              AND f.major = (%b::int4[])[wanted.topic] AND f.record_key = wanted.record_key LIMIT 1) AS facet"""
SQLITE_STANDING = _SQLITE_LOOK_UP.format(columns=_PLACE)
POSTGRES_STANDING = _POSTGRES_LOOK_UP.format(columns=_PLACE)

# The payloads that stand under these identities.
SQLITE_PAYLOADS = _SQLITE_LOOK_UP.format(columns="payload")
POSTGRES_PAYLOADS = _POSTGRES_LOOK_UP.format(columns="payload")

# Insert a facet or replace what stands. On SQLite also so many in one statement: between two the driver takes Python's
# lock, which the thread that decodes holds.
SQLITE_ROWS = 50
_SQLITE_ROW = f"({', '.join('?' for _ in _NAMES)})"
SQLITE_PUT = f"INSERT INTO facets ({FACET}) VALUES {_SQLITE_ROW} {_REPLACE}"
SQLITE_PUT_MANY = f"INSERT INTO facets ({FACET}) VALUES {', '.join([_SQLITE_ROW] * SQLITE_ROWS)} {_REPLACE}"
# PostgreSQL takes an array for each column.
_ARRAYS = ", ".join(f"%b::{type_}[]" for type_ in FACET_TYPES)
POSTGRES_PUT = f"INSERT INTO facets ({FACET}) SELECT * FROM unnest({_ARRAYS}) {_REPLACE}"

# The same for many rows. New ones go straight into the table; for those that replace others there is a table of this
# session that each commit empties, filled by COPY, and one statement from it.
POSTGRES_COPY_NEW = f"COPY facets ({FACET}) FROM STDIN (FORMAT binary)"
POSTGRES_STAGE = "CREATE TEMPORARY TABLE IF NOT EXISTS staged_facets (LIKE facets) ON COMMIT DELETE ROWS"
POSTGRES_COPY_STAGED = "COPY staged_facets FROM STDIN (FORMAT binary)"
POSTGRES_PUT_STAGED = f"INSERT INTO facets ({FACET}) SELECT {FACET} FROM staged_facets {_REPLACE}"

# --- the gateway's ----------------------------------------------------------------------------------------------------

# The facets of one subject under these (contract, major), a JSON array of pairs, up to a limit and in no order.
SQLITE_FEW_FACETS = f"""
    SELECT {SHOWN} FROM json_each(?) AS wanted CROSS JOIN facets AS f
        ON f.subject_key = ? AND f.contract = wanted.value ->> 0 AND f.major = wanted.value ->> 1
     WHERE f.payload IS NOT NULL LIMIT ?"""

# A page of one subject's facets of one contract. The database sorts the list, and keeps no more than the page of it.
SQLITE_FACETS = f"""
    SELECT {SHOWN} FROM facets
     WHERE subject_key = ? AND contract = ? AND major = ? AND payload IS NOT NULL AND (event_time, record_key) < (?, ?)
     ORDER BY event_time DESC, record_key DESC LIMIT ?"""

# The same for many requests at once; the rows of each carry its number instead of its subject. Most requests want the
# same contracts from the top, so these travel once, as numbered sets: $1 to $2 are the requests, $3 to $8 the sets.
POSTGRES_FACETS = f"""
    SELECT asked.n::int4 - 1, facet.*
      FROM unnest($1::text[], $2::int4[]) WITH ORDINALITY AS asked (subject_key, set, n)
      JOIN unnest($3::int4[], $4::text[], $5::int4[], $6::int8[], $7::text[], $8::int4[])
           WITH ORDINALITY AS wanted (set, contract, major, before_time, before_key, most, n) ON wanted.set = asked.set
     CROSS JOIN LATERAL (
           SELECT {SHOWN.removeprefix("subject_key, ")} FROM facets AS f
            WHERE f.subject_key = asked.subject_key AND f.contract = wanted.contract AND f.major = wanted.major
              AND f.payload IS NOT NULL AND (f.event_time, f.record_key) < (wanted.before_time, wanted.before_key)
            ORDER BY f.event_time DESC, f.record_key DESC LIMIT wanted.most) AS facet
     ORDER BY asked.n, wanted.n, facet.event_time DESC, facet.record_key DESC"""

POSTGRES_PLANNED_ONCE = """
    SELECT set_config('plan_cache_mode', 'force_generic_plan', false), set_config('enable_seqscan', 'off', false),
           set_config('jit', 'off', false)"""

# The watermarks of a contract, or of several.
SQLITE_WATERMARKS = "SELECT contract, source, as_of FROM watermarks WHERE contract = ? ORDER BY source"
POSTGRES_WATERMARKS = """
    SELECT contract, source, as_of FROM watermarks WHERE contract = ANY (%b::text[]) ORDER BY contract, source"""

# The bundle in force: the one that was applied last, however old its body is; and those before it.
NEWEST_BUNDLE = "SELECT version FROM bundle_applications ORDER BY sequence DESC LIMIT 1"
RECENT_BUNDLES = "SELECT version FROM bundle_applications ORDER BY sequence DESC LIMIT 16"

# The body of a bundle.
SQLITE_BUNDLE = "SELECT body FROM bundles WHERE version = ?"
POSTGRES_BUNDLE = "SELECT body FROM bundles WHERE version = %b"

# The secret that the facets are keyed by.
KEYED = "SELECT mark, whole FROM bus_secret"

# Mark proofs of possession as used; those that were not used before come back.
SQLITE_USE_PROOFS = """
    INSERT INTO used_proofs (proof, until) SELECT value ->> 0, value ->> 1 FROM json_each(?) WHERE true
        ON CONFLICT DO NOTHING RETURNING proof"""
POSTGRES_USE_PROOFS = """
    INSERT INTO used_proofs (proof, until) SELECT * FROM unnest(%s::text[], %s::int8[])
        ON CONFLICT DO NOTHING RETURNING proof"""
