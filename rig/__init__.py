"""The rig: an exchange under faults, held against an oracle that shares no code with it.

It speaks with the product over what any stranger has: commands, HTTP, the offices' files, the bytes of topics and the
rows of tables. `python -m rig` (or `make rig`) founds an exchange in a folder, sets offices, programs and desks to
work, kills and disturbs whatever runs, lets it settle, and says what did not hold. docs/rig.md tells how to read it.

In reading order; a module imports only from those above it:

    identities    codes of enterprises, and the keys of their records
    oracle        whatever was said, and what must stand because of it
    leaks         what must never leave
    offices       a register as a file, penalties as a table
    clients       how programs call the gateways
    pushers       programs that push until they are answered
    receipts      a receipt verified by hand
    desks         programs that read, and hold each answer against the oracle
    site          the processes, started again whatever ends
    servers       Kafka and PostgreSQL of the rig's own
    topics        topics as they are on the wire
    tables        the product's tables, and each effect as the database itself noted it
    places        where topics and tables are
    meddling      copies, late copies and poison
    proxy         cuts answers off
    faults        what strikes, and the schedule drawn from the seed
    workload      offices, programs and desks together
    replay        what a topic says must stand
    watch         memory, descriptors, threads
    checkers      what is held to account when it is over
    recovery      seconds until what was killed served again
    run           one run, from founding to findings
    report        the findings, for people and for programs
    blows         strace kills at the N-th call, or fails it
    small         a small exchange that is put back before each crash
    writing       the audit log's writer alone: the only module that imports the product
    acknowledged  that one crashes, and what it acknowledged is held against its files
    syscalls      a command of its own: a crash at every system call that writes
    powercut      another: the power goes at every call of the audit log's writer
"""
