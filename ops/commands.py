"""The words of the command line, and which command each one is.

Laws: without a command it serves, as it always did; what cannot be done is one sentence on stderr without a traceback;
the exit code is 0 when all was done, 1 when not, 2 for words and settings that cannot be used, 130 when it was
interrupted.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ops.durations import duration
from ops.parts import Configured, Parts
from ops.terminal import complain
from wire.errors import InvalidSetting, ThreadholdError

__all__ = ["run"]

_EPILOG = """\
Settings come from the environment, .env and threadhold.toml; the README lists them.
Threadhold is under the MIT license. LangServe, which serves /chat and /assistant, is not open source: its license
forbids offering it to third parties as a hosted or managed service. `threadhold licenses` lists every package's.
Exit codes: 0 done, 1 not done (a sentence on stderr says why), 2 words or settings not understood, 130 interrupted.
"""

_BACKUP = "copy all that is stored, while the server runs or not, and read the copy again"
_EXPORT = "write assistants and threads, with messages, runs and steps, as JSON lines in OpenAI's shapes"
_EXPORT_MORE = (
    "It reads beside a running server. Files and vector stores are not in it (`backup` has them), nor keys of actions, "
    "nor what is under way."
)
_IMPORT = "bring threads and assistants of a dump over, under their own ids and times"
_IMPORT_MORE = (
    "A dump is what `export` wrote, or what you kept of OpenAI's: objects or listings of threads (with their "
    "`messages`), messages, runs, steps and assistants. The server must not run. Nothing is written before all of the "
    "file was checked; what is there already stays as it is."
)
_PRUNE = "delete threads, with all that is in them, that have not been used for long"
_LICENSES = "list the packages that the server runs on, with their licenses"
_CHECK = "look whether the settings, the models, the store, the disk and the port would do"

_LICENSES_MORE = "All but LangServe's are open source; what LangServe's forbids is in README, under Licenses."

Command = Callable[[argparse.Namespace, Configured, Parts], int]


def run(parts: Parts, arguments: Sequence[str] | None = None) -> int:
    """Do what the words say and return the exit code. Raises SystemExit where argparse ends it: help, wrong words."""
    parser = _parser(parts.version)
    options = parser.parse_args(arguments)
    given = {name: value for name in ("host", "port") if (value := getattr(options, name)) is not None}
    if given and options.command != "serve":
        parser.error(f"--{next(iter(given))} goes with `serve` only")
    command: Command = options.run
    try:
        return command(options, parts.settings(**given), parts)
    except InvalidSetting as error:
        for fault in error.message.splitlines():
            complain(fault)
        return 2
    except BrokenPipeError:  # who reads has enough, as `head` does; nothing is left to tell, nor to flush at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ThreadholdError, OSError) as error:
        complain(str(error))
        return 1
    except KeyboardInterrupt:
        complain("interrupted")
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
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", description="`COMMAND --help` says more.")

    def add(name: str, run: Command, told: str, more: str = "") -> argparse.ArgumentParser:
        added = commands.add_parser(
            name,
            help=told,
            description=f"{told[0].upper()}{told[1:]}. {more}",
            allow_abbrev=False,
        )
        added.set_defaults(command=name, run=run)
        return added

    _add_address(add("serve", _serve, "serve, until a signal ends it (what no command means, too)"))
    backup = add(
        "backup",
        _backup,
        _BACKUP,
        "The folder that it makes has the form of DATA_DIR: to put it there is to restore it.",
    )
    backup.add_argument("folder", type=Path, help="where to; made anew, and must not be there yet")
    dump = add("export", _export, _EXPORT, _EXPORT_MORE)
    dump.add_argument("file", nargs="?", default="-", help="where to; standard output by default")
    dump.add_argument("--owner", help="whose; needed where the store has several owners' objects")
    dump.add_argument("--thread", action="append", default=[], metavar="ID", help="this thread only; several times")
    bring = add("import", _import, _IMPORT, _IMPORT_MORE)
    bring.add_argument("file", help="JSON lines or one JSON document; - for standard input")
    bring.add_argument("--owner", help="for whom; needed where API_KEYS has several owners")
    bring.add_argument("--dry-run", action="store_true", help="read and check, write nothing")
    bring.add_argument("--skip-refused", action="store_true", help="leave refused entries out, with their threads")
    old = add("prune", _prune, _PRUNE, "The server must not run; one that does prunes by itself with RETENTION_DAYS.")
    old.add_argument("--older-than", type=duration, metavar="30d", help="how long; h, d or w (RETENTION_DAYS)")
    old.add_argument("--dry-run", action="store_true", help="only tell how many, beside a running server or not")
    old.add_argument(
        "--shrink", action="store_true", help="make the database's file smaller afterwards, which takes time"
    )
    look = add("check", _check, _CHECK, "Nothing is written. The exit code is 1 when something would not work.")
    look.add_argument("--ask", action="store_true", help="ask the model one question, too, which loads a built-in one")
    add("licenses", _licenses, _LICENSES, _LICENSES_MORE)
    return parser


def _add_address(parser: argparse.ArgumentParser, default: Any = argparse.SUPPRESS) -> None:
    parser.add_argument("--host", default=default, help="address to listen on (HOST, default 127.0.0.1)")
    parser.add_argument("--port", default=default, type=int, help="port to listen on (PORT, default 3000)")


# --- one function a command, which imports what it needs ------------------------------------------------------------


def _serve(_: argparse.Namespace, settings: Configured, parts: Parts) -> int:
    from ops.start import start

    start(settings, parts)
    return 0


def _backup(options: argparse.Namespace, settings: Configured, _: Parts) -> int:
    from ops.backup import run_backup

    return run_backup(settings, options.folder)


def _check(options: argparse.Namespace, settings: Configured, parts: Parts) -> int:
    from ops.check import run_check

    return run_check(settings, parts, ask_model=options.ask)


def _licenses(_: argparse.Namespace, _settings: Configured, _parts: Parts) -> int:
    from ops.licenses import run_licenses

    return run_licenses()


def _export(options: argparse.Namespace, settings: Configured, _: Parts) -> int:
    from ops.exporting import run_export

    return run_export(settings, options.file, owner=options.owner, thread_ids=options.thread)


def _import(options: argparse.Namespace, settings: Configured, _: Parts) -> int:
    from ops.importing import run_import

    return run_import(
        settings, options.file, owner=options.owner, skip_refused=options.skip_refused, dry_run=options.dry_run
    )


def _prune(options: argparse.Namespace, settings: Configured, _: Parts) -> int:
    from ops.prune import run_prune

    return run_prune(settings, older_s=options.older_than, dry_run=options.dry_run, shrink=options.shrink)
