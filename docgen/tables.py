"""Formats Markdown tables."""

__all__ = ["cell", "row"]


def row(*cells: str) -> str:
    """Return a line of a table."""
    return f"| {' | '.join(cells)} |"


def cell(text: str) -> str:
    """Return a text in one line, with the characters that end a cell escaped."""
    return " ".join(text.split()).replace("|", "\\|")
