"""Extracts the text of files, and splits text into chunks.

Invariants: files are untrusted. Each is read in a separate process with limits of time, memory and output, which ends
after this one file. Every failure becomes an UnreadableFile and affects no other file. This module imports nothing,
because the process that reads a file imports it first.
"""
