"""`python -m handbook`: write the pages that are made from the code (`make reference`)."""

from __future__ import annotations

from handbook.pages import DOCS, pages

if __name__ == "__main__":
    made = pages()
    for path, text in made.items():
        (DOCS / path).parent.mkdir(exist_ok=True)
        (DOCS / path).write_text(text, "utf-8")
    print(f"{len(made)} pages in {DOCS.name}/")
