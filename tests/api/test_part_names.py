"""File names in the headers of forms' parts, as real clients send them."""

import base64
from contextlib import suppress
from urllib.parse import quote

import httpx2
import pytest

from api.part_names import part_names
from tests.api.conftest import ApiClient
from tests.cpu_time import limit_cpu_time
from wire.errors import InvalidRequest

RUSSIAN = "отчёт.txt"
LONG = "ф" * 251 + ".txt"


def word(name: str, charset: str = "utf-8") -> str:
    """Return an encoded word in Base64."""
    return f"=?{charset}?B?{base64.b64encode(name.encode(charset)).decode()}?="


def extended(name: str, charset: str = "utf-8") -> str:
    """Return a value in RFC 8187's notation."""
    return f"{charset}''{quote(name.encode(charset), safe='')}"


def upload(client: httpx2.Client, disposition: str | bytes, content_type: str = "text/plain") -> httpx2.Response:
    """Send a file whose part has this Content-Disposition, after `form-data; name="file"; `."""
    raw = disposition.encode() if isinstance(disposition, str) else disposition
    body = (
        b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nassistants\r\n'
        b'--b\r\ncontent-disposition: form-data; name="file"' + raw + b"\r\n"
        b"Content-Type: " + content_type.encode() + b"\r\n\r\nhello\r\n--b--\r\n"
    )
    return client.post("/files", content=body, headers={"Content-Type": 'multipart/form-data; boundary="b"'})


NAMES: dict[str, tuple[str | bytes, str]] = {
    # extended notation
    "extended alone": (f"; filename*={extended(RUSSIAN)}", RUSSIAN),
    "extended first": (f"; filename*={extended(RUSSIAN)}; filename=x.txt", RUSSIAN),
    "extended last": (f'; filename="x.txt"; filename*={extended(RUSSIAN)}', RUSSIAN),
    "extended over a word": (f'; filename="{word("x.txt")}"; filename*={extended(RUSSIAN)}', RUSSIAN),
    "extended, in capitals": (f"; FILENAME*={extended(RUSSIAN).replace('utf-8', 'UTF-8')}", RUSSIAN),
    "extended, with a language": ("; filename*=utf-8'en'%C2%A3.txt", "£.txt"),
    "extended, Latin-1": (f"; filename*={extended('Zoë.txt', 'iso-8859-1')}", "Zoë.txt"),
    "extended, Cyrillic code page": (f"; filename*={extended(RUSSIAN, 'windows-1251')}", RUSSIAN),
    "extended, quoted": (f'; filename*="{extended(RUSSIAN)}"', RUSSIAN),
    "extended, not escaped": (f"; filename*=utf-8''{RUSSIAN}", RUSSIAN),
    "extended, no charset": ("; filename*=%D0%B4.txt", "д.txt"),
    "extended, unknown charset": ("; filename*=klingon''%D0%B4.txt", "д.txt"),
    "extended, wrong charset": ("; filename*=utf-8''Zo%EB.txt", "Zoë.txt"),
    "extended, a codec that is no charset": ("; filename*=hex''6162.txt", "6162.txt"),
    "extended, blank": ("; filename*=utf-8''; filename=a.txt", "a.txt"),
    "extended, a path": ("; filename*=utf-8''..%2F..%2Fetc%2Fpasswd", "passwd"),
    "extended, control characters": ("; filename*=utf-8''a%0D%0Ab%00%E2%80%AE.txt", "ab.txt"),
    "extended, a quote": ("; filename*=utf-8''a%22b%27c.txt", "a\"b'c.txt"),
    "in pieces": ("; filename*0*=utf-8''%D0; filename*1*=%B4; filename*2=.txt", "д.txt"),
    "in plain pieces": ('; filename*0="long; "; filename*1="name.txt"', "long; name.txt"),
    # encoded words
    "word": (f'; filename="{word(RUSSIAN)}"', RUSSIAN),
    "word, unquoted": (f"; filename={word(RUSSIAN)}", RUSSIAN),
    "word, Q": ('; filename="=?UTF-8?Q?=D0=B4_a.txt?="', "д a.txt"),
    "word, lower case": ('; filename="=?utf-8?q?=d0=b4.txt?="', "д.txt"),
    "word, Latin-1": ('; filename="=?ISO-8859-1?Q?Zo=EB.txt?="', "Zoë.txt"),
    "word, Japanese": (f'; filename="{word("報告.txt", "iso-2022-jp")}"', "報告.txt"),
    "word, Chinese": (f'; filename="{word("报告.txt", "gb18030")}"', "报告.txt"),
    "word, with a language": ('; filename="=?utf-8*ru?Q?=D0=B4.txt?="', "д.txt"),
    "words": (f'; filename="{word("отч")} {word("ёт.txt")}"', RUSSIAN),
    "words side by side": (f'; filename="{word("отч")}{word("ёт.txt")}"', RUSSIAN),
    "words that share a character": ('; filename="=?utf-8?B?0A==?= =?utf-8?B?tC50eHQ=?="', "д.txt"),
    "word, then its ending": (f'; filename="{word("отчёт")}.txt"', RUSSIAN),
    "word, unpadded": ('; filename="=?utf-8?B?0LQ?="', "д"),
    "word, unknown charset": ('; filename="=?klingon?B?0LQ=?="', "=?klingon?B?0LQ=?="),
    "word, broken": ('; filename="=?utf-8?B?0?="', "=?utf-8?B?0?="),
    "word, wrong charset": ('; filename="=?utf-8?Q?Zo=EB.txt?="', "=?utf-8?Q?Zo=EB.txt?="),
    "word, a path": (f'; filename="{word("../../x.txt")}"', "x.txt"),
    # plain
    "raw UTF-8": (f'; filename="{RUSSIAN}"', RUSSIAN),
    "raw UTF-8, unquoted": (f"; filename={RUSSIAN}", RUSSIAN),
    "raw Latin-1": (b'; filename="Zo\xeb.txt"', "Zoë.txt"),
    "raw Windows-1252": (b'; filename="5 \x80.txt"', "5 €.txt"),
    "neither UTF-8 nor Windows-1252": (b'; filename="a\x81\xff.txt"', "a\ufffdÿ.txt"),
    "browsers' escapes": ('; filename="a%22b%0D%0Ac%41.txt"', 'a"bc%41.txt'),
    "backslashes": ('; filename="a\\"b\\\\c.txt"', "c.txt"),
    "a quote": ('; filename="a\\"b.txt"', 'a"b.txt'),
    "semicolons": ("; filename=\"a;b=c; filename*=utf-8''d.txt\"", "a;b=c; filename*=utf-8''d.txt"),
    "Windows' path": ('; filename="C:\\x\\y.txt"', "y.txt"),
    "Windows' share": ('; filename="\\\\host\\x\\y.txt"', "y.txt"),
    "path": ("; filename=../../x", "x"),
    "folder": ('; filename="a/b/"', "b"),
    "spaces around": ('; filename = " a.txt " ', "a.txt"),
    "decomposed": ('; filename="Zoe\u0308.txt"', "Zoe\u0308.txt"),
    "no name": ("", "file"),
    "empty": ('; filename=""', "file"),
    "blank": ('; filename="  "', "file"),
    "dots": ('; filename=".."', "file"),
    "long, in every form": (f'; filename="{word(LONG)}"; filename*={extended(LONG)}', LONG),
}


@pytest.mark.parametrize(("disposition", "kept"), NAMES.values(), ids=NAMES)
def test_a_file_keeps_the_name_that_was_sent(api: ApiClient, disposition: str | bytes, kept: str) -> None:
    answer = upload(api.client, disposition)
    assert answer.status_code == 200, answer.text
    assert answer.json()["filename"] == kept
    assert api.get(f"/files/{answer.json()['id']}")["filename"] == kept


@pytest.mark.parametrize(
    ("content_type", "kept"),
    [
        ('text/plain; name="a.txt"', "a.txt"),
        (f"text/plain; charset=utf-8; name*={extended(RUSSIAN)}", RUSSIAN),
        (f'text/plain; name="{word(RUSSIAN)}"', RUSSIAN),
        ("text/plain; charset=utf-8", "file"),
    ],
    ids=["plain", "extended", "word", "none"],
)
def test_a_name_only_in_the_content_type_is_used(api: ApiClient, content_type: str, kept: str) -> None:
    assert upload(api.client, "", content_type).json()["filename"] == kept
    assert upload(api.client, "; filename=b.txt", content_type).json()["filename"] == "b.txt"


LENGTH = 8_000
COSTLY: dict[str, bytes] = {
    "semicolons in quotes": b'; filename="' + b";" * LENGTH,
    "parameters": b"; " + b";" * LENGTH,
    "escaped quotes": b'; filename="' + b'\\";' * (LENGTH // 3),
    "continuations": b"".join(b"; filename*%d=x" % number for number in range(450)),
    "extended, punycode": b"; filename*=punycode''" + b"9" * LENGTH,
    "extended, idna": b"; filename*=idna''" + b"9." * (LENGTH // 2),
    "word, punycode": b'; filename="=?punycode?q?' + b"9" * LENGTH + b'?="',
    "words": b'; filename="' + b"=?utf-8?q?a?= " * (LENGTH // 14) + b'"',
}


@pytest.mark.parametrize("disposition", COSTLY.values(), ids=COSTLY)
def test_a_header_of_a_part_takes_little_time(disposition: bytes) -> None:
    def read() -> None:
        with suppress(InvalidRequest):
            part_names(
                b'form-data; name="file"' + disposition, b"text/plain" + disposition.replace(b"filename", b"name")
            )

    limit_cpu_time(0.015, read)


@pytest.mark.parametrize("semicolons", [255, 301])
def test_a_name_of_semicolons_is_kept_up_to_the_limit(api: ApiClient, semicolons: int) -> None:
    answer = upload(api.client, f'; filename="{";" * semicolons}"')
    assert answer.status_code == (200 if semicolons == 255 else 400), answer.text


@pytest.mark.parametrize(
    "disposition",
    [
        f"; filename*={extended('x' * 256)}",
        f'; filename="{word("x" * 256)}"',
        "; filename*0*=utf-8''a; filename*=utf-8''b",
        "; filename*" + "9" * 5000 + "=a",
        '; filename="' + "x" * 20_000 + '"',
    ],
    ids=["long, extended", "long, word", "contradiction", "number", "huge"],
)
def test_a_name_that_cannot_be_kept_is_refused(api: ApiClient, disposition: str) -> None:
    answer = upload(api.client, disposition)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


def test_a_name_in_any_notation_does_not_change_the_field(api: ApiClient) -> None:
    body = (
        b"--b\r\nContent-Disposition: form-data; name=purpose; filename*=utf-8''x\r\n\r\nuser_data\r\n"
        b"--b\r\nContent-Disposition: form-data; name=file; filename=a.txt\r\n\r\nhello\r\n--b--\r\n"
    )
    answer = api.client.post("/files", content=body, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert (answer.json()["purpose"], answer.json()["filename"]) == ("user_data", "a.txt")
