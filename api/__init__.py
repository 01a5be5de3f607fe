"""What is HTTP? One resource a file; problems, guards and streams beside them.

The law of the room: it translates and decides nothing. What a request may do is refused in the store's transaction
or by the runner; here it becomes a status and OpenAI's error shape.
"""
