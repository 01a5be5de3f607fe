"""What does a file say? Its text, and the text in pieces.

The laws of the room: a file is never believed. It is read in a process of its own, with limits of time, memory and
output, that ends when it has read this one file; whatever is wrong with it becomes an Unreadable, and harms no other.
(Nothing is imported here: the process that reads a file starts by importing this.)
"""
