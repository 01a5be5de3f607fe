"""Tests of the room `ops`: the command line, run as a person runs it."""
