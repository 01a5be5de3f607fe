"""Measures what the server costs, compared with calling the same model directly and with another revision."""
