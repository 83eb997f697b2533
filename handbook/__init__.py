"""The handbook: docs/ as a site, and those of its pages that are made from the code.

    settings, connectors, commands, metrics, http, contracts, problems   the reference: a module for each page
    values      each type of a contract, with a value as the code has it
    models      tables of settings, from their models
    pages       all of these; `python -m handbook` (make reference) writes them, a test holds docs/ against them
    writing     Markdown from sentences that stand in the code
    links       what the site does to pages: links that leave docs/, the language of a page
    theme       what the site changes of its theme

A tool of the house; it is not shipped.
"""
