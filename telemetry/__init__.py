"""What is happening here? Log lines and metrics, for every room; what the operator's tools make of them is `api`'s.

The law of the room: watching costs next to nothing and holds nobody up; what people write to each other, and what is
secret, is not in it.
"""
