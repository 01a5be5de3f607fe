"""Writes the generated pages into `docs/`: `python -m docgen`."""

from pathlib import Path

from docgen.pages import PAGES

FOLDER = Path(__file__).parents[1] / "docs"

for name, page in PAGES.items():
    (FOLDER / name).write_text(page())
    print(f"docs/{name}")
