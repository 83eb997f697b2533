"""One large city through everything that `exchange up` starts: how long, how much memory, how much disk.

In reading order:

    town        a folder of its own: settings, keys, the city's offices, the policies
    processes   memory and processor time of every process, as the kernel counts them
    delivery    every part running; pushes; until all that truth.json says stands, each row accounted for
    sizes       what it takes on disk
    printing    the tables
    __main__    `python -m bench.volume`, run by `make volume`

Nothing here is quicker than in a real city: the parts are the processes of `exchange up`, with its settings, and every
acknowledgement is durable. docs/performance.md has figures.
"""
