"""Generates the pages of `docs/` that restate the code: `settings.md` and `api.md`. Not part of the wheel."""
