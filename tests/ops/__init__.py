"""Tests of the package `ops`: the command line as a user runs it."""
