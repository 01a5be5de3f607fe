"""The schema of the SQLite file, as numbered migrations. Migrations are only ever added.

Invariants: a migration and the row that records it are one transaction. One process runs it, and others that open the
file at the same time wait. A released migration is never changed. A file with migrations that are unknown here is
refused. Every table has an owner column from the first migration on.

`seq` is AUTOINCREMENT: no number is used twice, so the position of a deleted row stays unique (tombstones).
"""

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from wire.errors import StoreFailed

__all__ = ["MIGRATIONS", "migrate"]

MIGRATIONS = Migrations("threadhold")


def migrate(db: Database, name: str) -> None:
    """Migrate the file, or wait until another process has. Raises StoreFailed (with `name` as the name of the file) if
    it is newer than this code."""
    if newer := sorted({step.name for step in MIGRATIONS.applied(db)} - set(STEPS)):
        raise StoreFailed(
            f"The database `{name}` was written by a newer threadhold (it has the schema step `{newer[-1]}`, "
            f"the newest here is `{STEPS[-1]}`): use that version, or another `DATABASE_URL`."
        )
    while MIGRATIONS.pending(db):
        db.conn.execute("BEGIN IMMEDIATE")
        try:
            # Read again with the lock: another process may have run some. One per transaction keeps the log small.
            later = [step.name for step in MIGRATIONS.pending(db)[1:]]
            MIGRATIONS.apply(db, stop_before=later)
            db.conn.execute("COMMIT")
        except BaseException:
            db.rollback()
            raise


def _run_all(db: Database, script: str) -> None:
    # Not executescript(), which would commit the migration's transaction first.
    for statement in script.split(";"):
        if statement.strip():
            db.conn.execute(statement)


@MIGRATIONS()
def m001_objects(db: Database) -> None:
    """Assistants, threads, messages, runs and steps, and the positions of deleted ones in their lists."""
    _run_all(
        db,
        """
        CREATE TABLE assistants (
            seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL,
            body TEXT NOT NULL, private TEXT NOT NULL);
        CREATE INDEX assistants_list ON assistants (owner);

        CREATE TABLE threads (
            seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL,
            body TEXT NOT NULL, private TEXT NOT NULL);
        CREATE INDEX threads_list ON threads (owner);

        CREATE TABLE messages (
            seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL,
            thread_id TEXT NOT NULL, run_id TEXT, body TEXT NOT NULL, private TEXT NOT NULL);
        CREATE INDEX messages_list ON messages (thread_id, owner);
        CREATE INDEX messages_of_run ON messages (run_id, thread_id, owner) WHERE run_id IS NOT NULL;

        CREATE TABLE runs (
            seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL,
            thread_id TEXT NOT NULL, status TEXT NOT NULL, expires_at INTEGER,
            body TEXT NOT NULL, private TEXT NOT NULL);
        CREATE INDEX runs_list ON runs (thread_id, owner);
        CREATE UNIQUE INDEX runs_active ON runs (thread_id)
            WHERE status IN ('cancelling', 'in_progress', 'queued', 'requires_action');

        CREATE TABLE steps (
            seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL,
            thread_id TEXT NOT NULL, run_id TEXT, body TEXT NOT NULL, private TEXT NOT NULL);
        CREATE INDEX steps_list ON steps (thread_id, owner);
        CREATE INDEX steps_of_run ON steps (run_id, thread_id, owner) WHERE run_id IS NOT NULL;

        CREATE TABLE tombstones (
            id TEXT NOT NULL, kind TEXT NOT NULL, owner TEXT NOT NULL, thread_id TEXT, run_id TEXT,
            seq INTEGER NOT NULL, PRIMARY KEY (id, kind)) WITHOUT ROWID;
        CREATE INDEX tombstones_of_thread ON tombstones (thread_id) WHERE thread_id IS NOT NULL
        """,
    )


@MIGRATIONS()
def m002_events(db: Database) -> None:
    """The event log of each run."""
    _run_all(
        db,
        """
        CREATE TABLE events (
            run_id TEXT NOT NULL, number INTEGER NOT NULL, owner TEXT NOT NULL, name TEXT NOT NULL, json TEXT NOT NULL,
            PRIMARY KEY (run_id, number)) WITHOUT ROWID
        """,
    )


@MIGRATIONS()
def m003_checkpoints(db: Database) -> None:
    """LangGraph's checkpoints of active runs, and the writes of their tasks. `ns` is LangGraph's namespace."""
    _run_all(
        db,
        """
        CREATE TABLE checkpoints (
            run_id TEXT NOT NULL, ns TEXT NOT NULL, id TEXT NOT NULL, owner TEXT NOT NULL, parent_id TEXT,
            type TEXT NOT NULL, checkpoint BLOB NOT NULL, metadata_type TEXT NOT NULL, metadata BLOB NOT NULL,
            PRIMARY KEY (run_id, ns, id));
        CREATE TABLE checkpoint_writes (
            run_id TEXT NOT NULL, ns TEXT NOT NULL, checkpoint_id TEXT NOT NULL, task_id TEXT NOT NULL,
            idx INTEGER NOT NULL, owner TEXT NOT NULL, task_path TEXT NOT NULL, channel TEXT NOT NULL,
            type TEXT NOT NULL, value BLOB NOT NULL,
            PRIMARY KEY (run_id, ns, checkpoint_id, task_id, idx))
        """,
    )


@MIGRATIONS()
def m004_files(db: Database) -> None:
    """Files, vector stores, vector store files, and their batches."""
    _run_all(
        db,
        """
        CREATE TABLE files (
            seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL,
            purpose TEXT NOT NULL, expires_at INTEGER, body TEXT NOT NULL, private TEXT NOT NULL);
        CREATE INDEX files_list ON files (owner);
        CREATE INDEX files_by_purpose ON files (purpose, owner);
        CREATE INDEX files_expiring ON files (expires_at) WHERE expires_at IS NOT NULL;

        CREATE TABLE vector_stores (
            seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL,
            status TEXT NOT NULL, expires_at INTEGER, body TEXT NOT NULL, private TEXT NOT NULL);
        CREATE INDEX vector_stores_list ON vector_stores (owner);
        CREATE INDEX vector_stores_expiring ON vector_stores (expires_at)
            WHERE expires_at IS NOT NULL AND status != 'expired';

        CREATE TABLE vector_store_files (
            seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL,
            vector_store_id TEXT NOT NULL, batch_id TEXT, file_id TEXT NOT NULL,
            status TEXT NOT NULL, usage_bytes INTEGER NOT NULL, body TEXT NOT NULL, private TEXT NOT NULL);
        CREATE INDEX vector_store_files_list ON vector_store_files (owner);
        CREATE INDEX vector_store_files_of_vector_store ON vector_store_files (vector_store_id, owner);
        CREATE INDEX vector_store_files_by_status ON vector_store_files (vector_store_id, owner, status);
        CREATE INDEX vector_store_files_count ON vector_store_files (vector_store_id, status, usage_bytes);
        CREATE INDEX vector_store_files_of_batch ON vector_store_files (batch_id, vector_store_id, owner)
            WHERE batch_id IS NOT NULL;
        CREATE INDEX vector_store_files_count_of_batch ON vector_store_files (batch_id, status, usage_bytes)
            WHERE batch_id IS NOT NULL;
        CREATE INDEX vector_store_files_of_file ON vector_store_files (file_id);
        CREATE INDEX vector_store_files_waiting ON vector_store_files (status) WHERE status = 'in_progress';

        CREATE TABLE file_batches (
            seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL,
            vector_store_id TEXT NOT NULL, body TEXT NOT NULL, private TEXT NOT NULL);
        CREATE INDEX file_batches_list ON file_batches (owner);
        CREATE INDEX file_batches_of_vector_store ON file_batches (vector_store_id);

        ALTER TABLE tombstones ADD COLUMN vector_store_id TEXT;
        ALTER TABLE tombstones ADD COLUMN batch_id TEXT;
        CREATE INDEX tombstones_of_vector_store ON tombstones (vector_store_id) WHERE vector_store_id IS NOT NULL
        """,
    )


@MIGRATIONS()
def m005_index(db: Database) -> None:
    """The index of files: their chunks, the words of the chunks, and the vectors as one matrix for each file.

    A chunk's number is its file's number, shifted by 20 bits, plus its index. `state` is adding, whole or gone. A
    chunk's store is indexed as a word. The full-text index keeps no text, so a deletion must pass the same words again.
    """
    _run_all(
        db,
        """
        CREATE TABLE index_stores (
            seq INTEGER PRIMARY KEY AUTOINCREMENT, vector_store_id TEXT NOT NULL, owner TEXT NOT NULL,
            revision INTEGER NOT NULL, UNIQUE (vector_store_id, owner));

        CREATE TABLE index_files (
            seq INTEGER PRIMARY KEY AUTOINCREMENT, store INTEGER NOT NULL, file_id TEXT NOT NULL, owner TEXT NOT NULL,
            state TEXT NOT NULL, model TEXT, dimensions INTEGER, chunks INTEGER NOT NULL, attributes TEXT NOT NULL);
        CREATE INDEX index_files_of_store ON index_files (store, file_id);
        CREATE UNIQUE INDEX index_files_whole ON index_files (store, file_id) WHERE state = 'whole';
        CREATE INDEX index_files_not_whole ON index_files (store) WHERE state <> 'whole';
        CREATE INDEX index_files_sizes ON index_files (chunks);
        CREATE INDEX index_files_of_model ON index_files (owner, model) WHERE model IS NOT NULL;

        CREATE TABLE index_vectors (file INTEGER PRIMARY KEY, owner TEXT NOT NULL, vectors BLOB NOT NULL);

        CREATE TABLE index_chunks (
            seq INTEGER PRIMARY KEY, owner TEXT NOT NULL, start INTEGER NOT NULL, stop INTEGER NOT NULL,
            text TEXT NOT NULL);

        CREATE VIRTUAL TABLE index_words USING fts5 (
            store, text, content = '', tokenize = 'porter unicode61 remove_diacritics 2');
        INSERT INTO index_words (index_words, rank) VALUES ('rank', 'bm25(0.0, 1.0)');
        CREATE VIRTUAL TABLE index_terms USING fts5vocab (index_words, 'col')
        """,
    )
    # A file that is removed from a vector store is hidden from searches in the same transaction.
    db.conn.execute(
        """
        CREATE TRIGGER index_hide AFTER DELETE ON vector_store_files BEGIN
            UPDATE index_files SET state = 'gone' WHERE file_id = OLD.file_id AND owner = OLD.owner AND store IN (
                SELECT seq FROM index_stores WHERE vector_store_id = OLD.vector_store_id AND owner = OLD.owner);
            UPDATE index_stores SET revision = revision + 1
                WHERE vector_store_id = OLD.vector_store_id AND owner = OLD.owner;
        END
        """
    )


@MIGRATIONS()
def m006_blocks(db: Database) -> None:
    """Events of a log in blocks, one row each (see `store/sqlite/event_log.py`): the number of a block's last event."""
    _run_all(db, "ALTER TABLE events ADD COLUMN last INTEGER")


@MIGRATIONS()
def m007_uploads(db: Database) -> None:
    """Files that are uploaded in parts. The parts are in `private`: id → size in bytes."""
    _run_all(
        db,
        """
        CREATE TABLE uploads (
            seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL,
            status TEXT NOT NULL, expires_at INTEGER NOT NULL, body TEXT NOT NULL, private TEXT NOT NULL);
        CREATE INDEX uploads_list ON uploads (owner);
        CREATE INDEX uploads_by_status ON uploads (status, expires_at)
        """,
    )


@MIGRATIONS()
def m008_forms(db: Database) -> None:
    """The form of a file's words (see `store/folding.py`), 1 for all existing files. `store/sqlite/reindexing.py`
    rewrites them after the start, so that no start waits for it; `refolded` counts a file's passages that are
    rewritten."""
    _run_all(
        db,
        """
        ALTER TABLE index_files ADD COLUMN form INTEGER NOT NULL DEFAULT 1;
        ALTER TABLE index_files ADD COLUMN refolded INTEGER NOT NULL DEFAULT 0;
        CREATE INDEX index_files_outdated ON index_files (store) WHERE form < 2
        """,
    )


@MIGRATIONS()
def m009_remains(db: Database) -> None:
    """Deleted objects whose parts have not been removed yet (see `store/sqlite/deferred_deletes.py`), and stores hidden
    from searches."""
    _run_all(
        db,
        """
        CREATE TABLE remains (
            kind TEXT NOT NULL, id TEXT NOT NULL, owner TEXT NOT NULL, PRIMARY KEY (kind, id)) WITHOUT ROWID;
        ALTER TABLE index_stores ADD COLUMN hidden INTEGER NOT NULL DEFAULT 0
        """,
    )
    # The files of the store leave the index one by one, as their rows are removed (see `index_hide`).
    db.conn.execute(
        """
        CREATE TRIGGER index_hide_store AFTER DELETE ON vector_stores BEGIN
            UPDATE index_stores SET hidden = 1 WHERE vector_store_id = OLD.id AND owner = OLD.owner;
        END
        """
    )


@MIGRATIONS()
def m010_processes(db: Database) -> None:
    """The processes that use the file, what each works on (`holder`), and its duties. A process that is not listed is
    dead, whatever it held; its number is never used again."""
    _run_all(
        db,
        """
        CREATE TABLE processes (id INTEGER PRIMARY KEY AUTOINCREMENT, beat_at REAL NOT NULL);
        CREATE TABLE duties (name TEXT PRIMARY KEY, holder INTEGER NOT NULL) WITHOUT ROWID;
        ALTER TABLE runs ADD COLUMN holder INTEGER;
        ALTER TABLE vector_store_files ADD COLUMN holder INTEGER;
        ALTER TABLE index_files ADD COLUMN holder INTEGER
        """,
    )


@MIGRATIONS()
def m011_vector_slices(db: Database) -> None:
    """Vectors in rows of a few (see `store/sqlite/vector_slices.py`); those of existing files stay in `index_vectors`.
    Indexes that find an owner's waiting files and a model's dimensions in one step."""
    _run_all(
        db,
        """
        CREATE TABLE index_vector_slices (seq INTEGER PRIMARY KEY, owner TEXT NOT NULL, vectors BLOB NOT NULL);
        DROP INDEX index_files_of_model;
        CREATE INDEX index_files_of_model ON index_files (owner, model, dimensions) WHERE state = 'whole';
        DROP INDEX vector_store_files_waiting;
        CREATE INDEX vector_store_files_waiting ON vector_store_files (owner) WHERE status = 'in_progress'
        """,
    )


@MIGRATIONS()
def m012_items(db: Database) -> None:
    """Items of threads. They take their `seq` from the sequence of messages, so both have one order in a thread."""
    _run_all(
        db,
        """
        CREATE TABLE items (
            seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL,
            thread_id TEXT NOT NULL, run_id TEXT, body TEXT NOT NULL, private TEXT NOT NULL);
        CREATE INDEX items_list ON items (thread_id, owner);
        CREATE INDEX items_of_run ON items (run_id, thread_id, owner) WHERE run_id IS NOT NULL;

        INSERT INTO sqlite_sequence (name, seq) SELECT 'messages', 0
            WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'messages');

        CREATE VIEW entries AS
            SELECT seq, id, owner, thread_id, run_id, body, private, 'message' AS kind FROM messages
            UNION ALL SELECT seq, id, owner, thread_id, run_id, body, private, 'item' FROM items
        """,
    )
    db.conn.execute(
        """
        CREATE TRIGGER items_seq AFTER INSERT ON items BEGIN
            UPDATE sqlite_sequence SET seq = NEW.seq WHERE name = 'messages';
        END
        """
    )


@MIGRATIONS()
def m013_next_forms(db: Database) -> None:
    """Form 3 of words. `refolded` counts the passages of a file that have the form after its own, so a file that was
    partly rewritten in form 2 continues there. Files that have form 2 still have the former count, which is reset."""
    _run_all(
        db,
        """
        UPDATE index_files SET refolded = 0 WHERE form = 2 AND refolded <> 0;
        DROP INDEX index_files_outdated;
        CREATE INDEX index_files_outdated ON index_files (store) WHERE form < 3
        """,
    )


@MIGRATIONS()
def m014_keys_and_usage(db: Database) -> None:
    """API keys (see `store/sqlite/keys.py`), and the usage of owners by day (see `store/sqlite/usage.py`).

    `hash` is the key's SHA-256, `scopes` are separated by spaces. `day` is the start of a UTC day in Unix seconds."""
    _run_all(
        db,
        """
        CREATE TABLE api_keys (
            seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, name TEXT NOT NULL,
            hash BLOB NOT NULL, scopes TEXT NOT NULL, created_at INTEGER NOT NULL, expires_at INTEGER,
            revoked_at INTEGER, last_used_at INTEGER, requests_limit INTEGER, tokens_limit INTEGER);

        CREATE TABLE usage (
            day INTEGER NOT NULL, owner TEXT NOT NULL, model TEXT NOT NULL, kind TEXT NOT NULL, key_id TEXT NOT NULL,
            requests INTEGER NOT NULL, input_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
            output_tokens INTEGER NOT NULL, PRIMARY KEY (day, owner, model, kind, key_id)) WITHOUT ROWID
        """,
    )


STEPS = (
    "m001_objects",
    "m002_events",
    "m003_checkpoints",
    "m004_files",
    "m005_index",
    "m006_blocks",
    "m007_uploads",
    "m008_forms",
    "m009_remains",
    "m010_processes",
    "m011_vector_slices",
    "m012_items",
    "m013_next_forms",
    "m014_keys_and_usage",
)
"""All migrations, oldest first."""
