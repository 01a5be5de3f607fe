"""Parses the command line and runs the command.

Invariants: without a command, it serves. A failure is one sentence on stderr without a traceback. The exit code is 0
on success, 1 on failure, 2 for invalid arguments or settings, and 130 after an interrupt.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ops.durations import duration
from ops.factories import Factories, ServerSettings
from ops.key_options import add_key_commands
from ops.terminal import print_error
from ops.usage_options import add_usage_options
from telemetry.masking import mask_secrets
from wire.errors import InvalidSetting, ThreadholdError

__all__ = ["run"]

_EPILOG = """\
Settings come from the environment, .env, threadhold.toml and /run/secrets; docs/settings.md lists them.
Threadhold is under the MIT license. LangServe, which serves /chat and /assistant, is not open source: its license
forbids offering it to third parties as a hosted or managed service. `threadhold licenses` lists all licenses.
Exit codes: 0 success, 1 failure (stderr says why), 2 invalid arguments or settings, 130 interrupted.
"""

_BACKUP = "copy all stored data, and verify the copy; the server can be running"
_EXPORT = "write assistants and threads, with messages, runs and steps, as JSON lines in OpenAI's shapes"
_EXPORT_MORE = (
    "The server can be running. The export does not include files, vector stores, keys of tools or runs in progress; "
    "`backup` copies these."
)
_IMPORT = "import threads and assistants from a dump, with their ids and times"
_IMPORT_MORE = (
    "A dump is a file that `export` wrote, or objects that you saved from OpenAI: objects or lists of threads (with "
    "their `messages`), messages, runs, steps and assistants. The server must be stopped. Nothing is written until "
    "the whole file has been checked. Existing objects are not changed."
)
_PRUNE = "delete threads that have not been used for a long time, with everything in them"
_KEYS = "create, list, revoke and rotate API keys; the server can be running"
_KEYS_MORE = (
    "A running server accepts new keys and refuses revoked ones within a second. Once a key has been created, every "
    "API request needs a key, even if all keys are revoked later. The keys in API_KEYS remain valid."
)
_USAGE = "print the tokens that owners used, by day, owner and model; the server can be running"
_USAGE_MORE = (
    "Runs count when they end, and passed-through completions if their upstream reports the tokens. Days are in UTC."
)
_LICENSES = "list the packages that the server uses, with their licenses"
_CHECK = "check the settings, the models, the store, the disk and the port"

_LICENSES_MORE = "All licenses except LangServe's are open source; docs/operate.md describes its restrictions."

Command = Callable[[argparse.Namespace, ServerSettings, Factories], int]


def run(factories: Factories, arguments: Sequence[str] | None = None) -> int:
    """Run the command and return the exit code. Raises SystemExit where argparse exits: help, invalid arguments."""
    parser = _parser(factories.version)
    options = parser.parse_args(arguments)
    given = {name: value for name in ("host", "port") if (value := getattr(options, name)) is not None}
    if given and options.command != "serve":
        parser.error(f"--{next(iter(given))} can only be used with `serve`")
    command: Command = options.run
    mask: Callable[[str], str] = str
    try:
        settings = factories.settings(**given)
        mask = mask_secrets(settings.secrets)
        return command(options, settings, factories)
    except InvalidSetting as error:
        for fault in error.message.splitlines():
            print_error(mask(fault))
        return 2
    except BrokenPipeError:  # the reader closed the pipe, as `head` does; the flush at exit must not fail as well
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ThreadholdError, OSError) as error:
        print_error(mask(str(error)))
        return 1
    except KeyboardInterrupt:
        print_error("interrupted")
        return 130


def _parser(version: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="threadhold",
        description="A self-hosted, drop-in server for OpenAI's Assistants API, on any model.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"threadhold {version}")
    parser.set_defaults(command="serve", run=_serve)
    _add_address(parser, default=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", description="`COMMAND --help` has details.")

    def add(name: str, run: Command, summary: str, more: str = "") -> argparse.ArgumentParser:
        added = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}. {more}",
            allow_abbrev=False,
        )
        added.set_defaults(command=name, run=run)
        return added

    _add_address(add("serve", _serve, "run the server until a signal ends it (the default command)"))
    backup = add(
        "backup",
        _backup,
        _BACKUP,
        "The new folder has the layout of DATA_DIR: to restore the backup, put the folder there.",
    )
    backup.add_argument("folder", type=Path, help="the folder to create; it must not exist")
    dump = add("export", _export, _EXPORT, _EXPORT_MORE)
    dump.add_argument("file", nargs="?", default="-", help="the file to write; standard output by default")
    dump.add_argument("--owner", help="the owner to export; needed if the store has objects of several owners")
    dump.add_argument("--thread", action="append", default=[], metavar="ID", help="this thread only; can be repeated")
    load = add("import", _import, _IMPORT, _IMPORT_MORE)
    load.add_argument("file", help="JSON lines or one JSON document; - for standard input")
    load.add_argument("--owner", help="the owner of the imported objects; needed if several owners have keys")
    load.add_argument("--dry-run", action="store_true", help="only read and check the file")
    load.add_argument("--skip-refused", action="store_true", help="leave out refused entries and their threads")
    old = add(
        "prune",
        _prune,
        _PRUNE,
        "The server must be stopped. With RETENTION_DAYS, a running server deletes them itself.",
    )
    old.add_argument(
        "--older-than", type=duration, metavar="30d", help="the age: 12h, 30d or 4w (default: RETENTION_DAYS)"
    )
    old.add_argument("--dry-run", action="store_true", help="only count the threads; the server can be running")
    old.add_argument("--shrink", action="store_true", help="also shrink the database file, which takes time")
    add_key_commands(add("keys", _keys, _KEYS, _KEYS_MORE))
    add_usage_options(add("usage", _usage, _USAGE, _USAGE_MORE))
    check = add("check", _check, _CHECK, "Nothing is written. The exit code is 1 if a check fails.")
    check.add_argument("--ask", action="store_true", help="also ask the model a question; this loads a built-in model")
    add("licenses", _licenses, _LICENSES, _LICENSES_MORE)
    return parser


def _add_address(parser: argparse.ArgumentParser, default: object = argparse.SUPPRESS) -> None:
    parser.add_argument("--host", default=default, help="address to listen on (default: HOST, or 127.0.0.1)")
    parser.add_argument("--port", default=default, type=int, help="port to listen on (default: PORT, or 3000)")


# --- one function per command, which imports what it needs ----------------------------------------------------------


def _serve(_: argparse.Namespace, settings: ServerSettings, factories: Factories) -> int:
    from ops.start import start

    start(settings, factories)
    return 0


def _backup(options: argparse.Namespace, settings: ServerSettings, _: Factories) -> int:
    from ops.backup import run_backup

    return run_backup(settings, options.folder)


def _check(options: argparse.Namespace, settings: ServerSettings, factories: Factories) -> int:
    from ops.check import run_check

    return run_check(settings, factories, ask_model=options.ask)


def _keys(options: argparse.Namespace, settings: ServerSettings, _: Factories) -> int:
    from ops.keys import run_keys

    return run_keys(settings, options)


def _usage(options: argparse.Namespace, settings: ServerSettings, _: Factories) -> int:
    from ops.usage import run_usage

    return run_usage(settings, options)


def _licenses(_: argparse.Namespace, _settings: ServerSettings, _parts: Factories) -> int:
    from ops.licenses import run_licenses

    return run_licenses()


def _export(options: argparse.Namespace, settings: ServerSettings, _: Factories) -> int:
    from ops.exporting import run_export

    return run_export(settings, options.file, owner=options.owner, thread_ids=options.thread)


def _import(options: argparse.Namespace, settings: ServerSettings, _: Factories) -> int:
    from ops.importing import run_import

    return run_import(
        settings, options.file, owner=options.owner, skip_refused=options.skip_refused, dry_run=options.dry_run
    )


def _prune(options: argparse.Namespace, settings: ServerSettings, _: Factories) -> int:
    from ops.prune import run_prune

    return run_prune(settings, older_s=options.older_than, dry_run=options.dry_run, shrink=options.shrink)
