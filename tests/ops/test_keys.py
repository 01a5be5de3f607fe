"""`threadhold keys`, without a server."""

import json
import time
from pathlib import Path

import pytest

from store.backend import configured_database
from store.ports import StoredKey
from tests.ops.command import command
from wire.key_format import hash_key


def keys_in(folder: Path) -> list[StoredKey]:
    return configured_database("", folder).keys.all()


def create(folder: Path, *words: str) -> str:
    done = command(folder, "keys", "create", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_create_prints_the_key_alone_and_says_what_follows(tmp_path: Path) -> None:
    done = command(tmp_path, "keys", "create", "--owner", "ann", "--name", "laptop")
    (stored,) = keys_in(tmp_path)
    text = done.stdout.strip()
    assert stored.hash == hash_key(text.encode())
    assert text.startswith(f"{stored.id}-")
    assert (stored.owner, stored.name) == ("ann", "laptop")
    assert stored.scopes == {"inference", "files", "read"}
    assert "every API request needs a key" in done.stderr
    assert text not in done.stderr


def test_create_takes_scopes_limits_and_an_expiry(tmp_path: Path) -> None:
    create(tmp_path, "--scope", "admin,read", "--scope", "files", "--rpm", "5", "--tpm", "1000", "--expires", "2d")
    (stored,) = keys_in(tmp_path)
    assert stored.scopes == {"admin", "read", "files"}
    assert (stored.limits.requests, stored.limits.tokens) == (5, 1000)
    assert stored.expires_at is not None
    assert abs(stored.expires_at - time.time() - 2 * 86_400) < 60


def test_a_date_is_valid_to_the_end_of_its_day(tmp_path: Path) -> None:
    create(tmp_path, "--expires", "2100-01-01")
    assert keys_in(tmp_path)[0].expires_at == 4_102_531_200


def test_list_shows_everything_but_the_keys(tmp_path: Path) -> None:
    text = create(tmp_path, "--owner", "ann", "--name", "laptop", "--rpm", "5")
    create(tmp_path, "--owner", "bob")
    done = command(tmp_path, "keys", "list")
    head, ann, bob = done.stdout.splitlines()
    assert head.split() == ["ID", "OWNER", "NAME", "SCOPES", "LIMITS", "CREATED", "EXPIRES", "LAST", "USED", "STATE"]
    assert [ann.split()[at] for at in (0, 1, 2, 3, -1)] == [
        text[:15],
        "ann",
        "laptop",
        "inference,files,read",
        "active",
    ]
    assert "5 rpm" in ann
    assert "bob" in bob
    assert text not in done.stdout
    (shown,) = map(json.loads, command(tmp_path, "keys", "list", "--json", "--owner", "ann").stdout.splitlines())
    assert (shown["id"], shown["state"], shown["requests_per_minute"]) == (text[:15], "active", 5)


def test_an_empty_list_is_no_failure(tmp_path: Path) -> None:
    done = command(tmp_path, "keys", "list")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "threadhold: there are no stored keys\n")
    assert list(tmp_path.iterdir()) == []


def test_revoke_takes_ids_and_whole_keys(tmp_path: Path) -> None:
    one, two = create(tmp_path), create(tmp_path)
    done = command(tmp_path, "keys", "revoke", one[:15], two)
    assert done.returncode == 0
    assert {key.state(time.time()) for key in keys_in(tmp_path)} == {"revoked"}
    assert "already revoked" in command(tmp_path, "keys", "revoke", one[:15]).stdout


def test_revoke_changes_nothing_if_one_id_is_unknown(tmp_path: Path) -> None:
    text = create(tmp_path)
    done = command(tmp_path, "keys", "revoke", text[:15], "th-000000000000")
    assert done.returncode == 1
    assert "no key th-000000000000" in done.stderr
    assert keys_in(tmp_path)[0].revoked_at is None


def test_rotate_makes_the_same_key_anew(tmp_path: Path) -> None:
    old = create(tmp_path, "--owner", "ann", "--name", "n", "--scope", "read", "--tpm", "9", "--expires", "2100-01-01")
    done = command(tmp_path, "keys", "rotate", old[:15], "--grace", "1h")
    assert done.returncode == 0, done.stderr
    now = time.time()
    was, new = sorted(keys_in(tmp_path), key=lambda key: key.revoked_at is None)
    assert (was.id, new.id, new.hash) == (old[:15], done.stdout[:15], hash_key(done.stdout.strip().encode()))
    assert (was.state(now), was.state(now + 3700), new.state(now)) == ("active", "revoked", "active")
    same = ("owner", "name", "scopes", "limits", "expires_at")
    assert [getattr(was, name) for name in same] == [getattr(new, name) for name in same]
    again = command(tmp_path, "keys", "rotate", old[:15])
    assert again.returncode == 1
    assert "was already rotated" in again.stderr


def test_rotate_without_grace_revokes_at_once(tmp_path: Path) -> None:
    old = create(tmp_path)
    command(tmp_path, "keys", "rotate", old[:15])
    assert {key.id: key.state(time.time()) for key in keys_in(tmp_path)}[old[:15]] == "revoked"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["keys"], "required: ACTION"),
        (["keys", "create", "--scope", "all"], "'all' is not a scope; the scopes are inference, files, read, admin"),
        (["keys", "create", "--scope", ","], "',' is not a scope"),
        (["keys", "create", "--expires", "2020-01-01"], "2020-01-01 is in the past"),
        (["keys", "create", "--expires", "2027-02-30"], "'2027-02-30' is not a date"),
        (["keys", "create", "--expires", "soon"], "write, for example, 30d, 12h or 4w, or a date such as 2027-01-31"),
        (["keys", "create", "--rpm", "0"], "'0' is not a limit"),
        (["keys", "create", "--tpm", "1.5"], "'1.5' is not a limit"),
        (["keys", "create", "--owner", "a,b"], "'a,b' is not an owner"),
        (["keys", "create", "--owner", ""], "'' is not an owner"),
        (["keys", "create", "--name", "a\nb"], "printable characters in one line"),
        (["keys", "revoke", "laptop"], "that is not the id of a key"),
        (["keys", "rotate", "th-000000000000", "--grace", "x"], "'x' is not a duration"),
    ],
)
def test_wrong_arguments_are_explained(words: list[str], message: str, tmp_path: Path) -> None:
    done = command(tmp_path, *words)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())
    assert list(tmp_path.iterdir()) == []


def test_the_host_can_be_public_once_a_key_is_stored(tmp_path: Path) -> None:
    settings = {"HOST": "0.0.0.0", "MODEL_URL": "http://127.0.0.1:9/v1"}
    assert "no key is stored" in command(tmp_path, "check", **settings).stdout
    create(tmp_path)
    done = command(tmp_path, "check", **settings).stdout
    assert "no key is stored" not in done
    assert "0 API keys and 1 stored keys of 1 owners" in done
