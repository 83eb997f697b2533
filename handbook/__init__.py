"""The handbook: docs/ as a site, and those of its pages that are made from the code. A tool of the house; not shipped.

links       what the site does to pages: links that leave docs/, the language of a page
"""
