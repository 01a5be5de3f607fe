"""What a deleted thread leaves in the tables, which the conformance suite cannot see."""

from store.ports import Append, CheckpointKey, Delete
from store.sqlite.store import open_store
from tests.store.rows import checkpoint_write, event, message, put, put_run, step


async def test_a_deleted_thread_leaves_only_its_tombstone() -> None:
    store = await open_store()
    of, run = await put_run(store)
    gone = message(of)
    await put(store, message(of, run_id=run.id), step(run), gone)
    store.checkpoints.put_writes(CheckpointKey(run.id, "", "1"), [checkpoint_write()])
    await store.commit([Append(run.id, [event(0)]), Delete("message", gone.id, "ann")], durable=False)
    await store.commit([Delete("thread", of.id, "ann")], durable=False)
    await store.purge()
    objects = ("assistants", "threads", "messages", "runs", "steps")
    tables = (*objects, "events", "checkpoints", "checkpoint_writes", "tombstones", "remains")
    counts = " + ".join(f"(SELECT count(*) FROM {name})" for name in tables)
    left = await store.engine.read(lambda connection: connection.execute(f"SELECT {counts}").fetchone()[0])
    assert left == 1
    await store.close()
