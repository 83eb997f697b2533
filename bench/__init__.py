"""Side-by-side measurements: Exchange as shipped against the obvious way, each figure a ratio of one run.

In reading order:

    measuring             rounds, figures, ratios, the machine
    citizens              what is measured with: a contract of eight fields, invented citizens, their messages
    databases             empty databases on the PostgreSQL that is measured
    materialising         a topic that is filled, a materialiser, and the watch over both
    facets                topic -> durable facet, on Kafka + PostgreSQL and on SQLite
    obvious_materialise   the obvious way to do that
    connect               Kafka Connect's own runtime writing the same rows
    members               memory over many records, and a second materialiser
    files                 a file of rows -> topic
    visible               from publishing until a record is visible
    city                  a folder for a real gateway: eight contracts, the project's guardrails, one reading client
    views                 authorised, merged, audited views per second
    obvious_gateway       the obvious way to do that
    core_gateway          the same core without a gateway around it
    stages                the stages of a view, each alone, against their references
    growth, plot          what a view costs as subjects, agreements and facets become more
    requests              the client, a process of its own: so many requests over kept connections
    alike                 what is forbidden against what there is not
    verify                `exchange audit verify` against hashing the same bytes
    sampling              where the time goes, by looking many times
    __main__              `python -m bench`, run by `make bench`

docs/performance.md has the figures and what they mean.
"""
