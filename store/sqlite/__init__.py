"""The ports of persistence, implemented in one SQLite file."""
