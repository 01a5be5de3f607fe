"""A separate process for the crash tests: commits threads forever, and prints the id of each once it is acknowledged.

python -m tests.store.crash PATH
"""

import asyncio
import sys

from store.ports import Insert
from store.sqlite.store import open_store
from tests.store.rows import message, thread


async def main(path: str) -> None:
    store = await open_store(path)
    sys.stdout.write("open\n")

    async def write() -> None:
        while True:
            row = thread()
            await store.commit([Insert(row), Insert(message(row))], durable=True)
            sys.stdout.write(f"{row.id}\n")
            sys.stdout.flush()

    await asyncio.gather(*(write() for _ in range(10)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
