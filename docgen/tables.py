"""Formats Markdown tables."""

__all__ = ["cell", "row"]


def row(*cells: str) -> str:
    """Return a line of a table."""
    return f"| {' | '.join(cells)} |"


def cell(text: str) -> str:
    """Return a text in one line, without characters that end a cell."""
    return " ".join(text.split()).replace("|", "\\|")
