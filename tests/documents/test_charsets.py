"""A text is decoded with the encoding that fits all of it, and the note reports what was guessed or replaced."""

import pytest

from documents.charsets import decode
from documents.extraction_errors import ExtractionError

ASCII = "".join(f"The quick brown fox jumps over the lazy dog, line {number}.\n" for number in range(1500))
"""More than 64 KiB."""

GERMAN = "Besprechung mit Herrn Müller über die Lieferung nächste Woche.\r\n"
TEXTS = [
    ("cp1252", "Kundennummer;Betrag\r\n1001;12,50 €\r\nGröße;XL\r\n"),
    ("cp1252", GERMAN),
    ("cp1252", "Café Müller"),
    ("cp1252", "Référence;Désignation\r\nA1;Écrou hexagonal en acier\r\n"),
    ("cp1252", "Año;Descripción\r\n2023;Señalización\r\n"),
    ("cp1252", "São Paulo, opção não"),
    ("cp1252", "Åse Ødegård, Tromsø"),
    ("cp1252", "Perché no? È così"),
    ("cp1252", "naïve"),
    ("cp1252", "l’été"),
    ("cp1252", "5 €"),
    ("cp1252", "Temperature: 25 °C, ±2"),
    ("cp1252", "§ 5 Abs. 2"),
    ("cp1252", "“Smart quotes” – and dashes…"),
    ("cp1252", "100 µm"),
    ("cp1252", "MÜLLER GMBH, STRAßE"),
    ("cp1250", "Zażółć gęślą jaźń"),
    ("cp1250", "Nazwisko;Miejscowość\r\nWójcik;Łódź\r\n"),
    ("cp1250", "Čaj, káva a mléko"),
    ("cp1250", "A bérleti szerződés tárgya a következő ingatlan"),
    ("iso8859-2", "Příliš žluťoučký kůň"),
    ("iso8859-15", "Prix: 5 € à payer, cœur"),
    ("cp1254", "Müşteri adı: Ayşe Yılmaz, İstanbul"),
    ("cp1257", "Sutartis Nr. 17, nuomininkas: Jonas Žemaitis, Šiauliai"),
    ("cp1251", "Договор аренды номер 17. Арендатор: Иван Петров."),
    ("cp1251", "Имя;Город\r\nИван;Москва\r\n"),
    ("koi8-r", "Договор аренды номер 17. Арендатор: Иван Петров."),
    ("cp866", "Имя;Город\r\nИван;Москва\r\n"),
    ("cp1253", "Καλημέρα κόσμε, η σύμβαση μίσθωσης"),
    ("cp1255", "שלום עולם, חוזה שכירות"),
    ("cp1256", "مرحبا بالعالم، عقد الإيجار"),
    ("cp874", "สวัสดีชาวโลก สัญญาเช่า"),
    ("gb18030", "联系人：王小明，电话"),
    ("gb18030", "姓名,城市\r\n王小明,北京\r\n"),
    ("big5", "聯絡人：王小明，電話"),
    ("cp932", "契約者は田中太郎です。"),
    ("euc-jp", "契約者は田中太郎です。"),
    ("cp949", "이름,도시\r\n김철수,서울\r\n"),
    ("cp437", "Café à la crème, déjà vu"),
    ("cp850", "┌────┬───┐\n│ Größe │ 5 │\n└────┴───┘\n"),
    ("cp850", "Référence;Désignation;Écrou à côté"),
    ("cp850", "Größe"),
    ("cp1252", "çà et là"),
    ("cp1252", "m³ und m², 1ª edição, ¿Qué?"),
    ("cp1250", "Cena: 5 zł"),
    ("cp1250", "ZAŻÓŁĆ"),
    ("cp1255", "שלום"),
    ("cp1256", "سلام"),
    ("big5", "你好"),
    ("cp949", "가격 5원"),
    ("cp1250", "Poznań"),
    ("cp1250", "Nazwa;Cena\r\nŚruba;12,50\r\nNakrętka;3,20\r\n"),
    ("iso8859-2", "Jižní Amerika, Německo, řeka"),
    ("cp1254", "İstanbul"),
    ("cp1254", "Ad;Şehir\r\nAyşe;İzmir\r\n"),
    ("cp1252", "það er gott veður í dag"),
    ("cp1251", "ДОГОВОР"),
    ("cp1251", "МОСКВА"),
    ("cp1251", "ДОГОВОР АРЕНДЫ\r\nАРЕНДАТОР: ПЕТРОВ\r\n"),
    ("cp1251", "Счёт №17 от 12.05.2024"),
    ("koi8-r", "ДОГОВОР"),
    ("cp866", "ДОГОВОР АРЕНДЫ"),
    ("cp1253", "ΑΘΗΝΑ"),
    ("cp1253", "ΣΥΜΒΑΣΗ ΜΙΣΘΩΣΗΣ"),
    ("cp932", "カタカナ"),
    ("cp932", "北アメリカ\nカリブ\n東アジア\n"),
    ("euc-jp", "ミクロネシア\nアジア\n"),
    ("cp932", "日本語"),
    ("gb18030", "非洲"),
    ("big5", "世界"),
    ("cp949", "세계"),
    ("cp1251", "ООО Ромашка, ИНН 7701234567"),
    ("cp1251", "Файл.txt"),
    ("mac-roman", "Müller, Größe, Straße, Düsseldorf, Königsallee"),
]


@pytest.mark.parametrize("position", ["short", "long", "late"])
@pytest.mark.parametrize(
    ("encoding", "text"), TEXTS, ids=[f"{encoding}-{number}" for number, (encoding, _) in enumerate(TEXTS)]
)
def test_the_complete_text_determines_the_code_page(encoding: str, text: str, position: str) -> None:
    complete = {"short": text, "long": f"{text}\n" * 30, "late": ASCII + f"{text}\n" * 3}[position]
    read = decode(complete.encode(encoding))
    assert read.text == complete
    assert read.note is not None
    assert "not UTF-8" in read.note


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("Größe".encode(), "Größe"),
        (b"\xef\xbb\xbf" + "Größe".encode(), "Größe"),
        ("Größe".encode("utf-16"), "Größe"),
        (b"\xfe\xff" + "Größe".encode("utf-16-be"), "Größe"),
        ("Größe".encode("utf-32"), "Größe"),
        ("Größe für Müller".encode("utf-16-le"), "Größe für Müller"),
        ("Größe für Müller".encode("utf-16-be"), "Größe für Müller"),
        ("Договор аренды".encode("utf-16-le"), "Договор аренды"),
        ("契約者は\n田中太郎です。\n".encode("utf-16-be"), "契約者は\n田中太郎です。\n"),
        ("Größe für Müller".encode("utf-32-le"), "Größe für Müller"),
        ("契約者は".encode("iso2022_jp"), "契約者は"),
        ("안녕".encode("iso2022_kr"), "안녕"),
        (b"a log \x00" + b"of many lines\n" * 99, "a log \x00" + "of many lines\n" * 99),
        (b"Gr\xc3\xbc\xc3\x9fe \xed\xa0\xbd\xed\xb8\x80", "Grüße 😀"),
        (b"\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
        (
            '<?xml version="1.0" encoding="windows-1251"?><a>Ваня</a>'.encode("cp1251"),
            '<?xml version="1.0" encoding="windows-1251"?><a>Ваня</a>',
        ),
        ('# coding: latin-1\nx = "ð"'.encode("latin-1"), '# coding: latin-1\nx = "ð"'),
        ("<meta charset=iso-8859-1>“x” é".encode("cp1252"), "<meta charset=iso-8859-1>“x” é"),
        ("<meta charset=iso-8859-1>“x” é".encode(), "<meta charset=iso-8859-1>“x” é"),
        (
            "<meta http-equiv=Content-Type content='text/html; charset=gb2312'>朱镕基".encode("gbk"),
            "<meta http-equiv=Content-Type content='text/html; charset=gb2312'>朱镕基",
        ),
    ],
)
def test_a_certain_encoding_needs_no_note(data: bytes, text: str) -> None:
    assert (decode(data).text, decode(data).note) == (text, None)


@pytest.mark.parametrize(
    ("data", "text", "note"),
    [
        ((GERMAN * 9).encode() + "Straße\n".encode("cp1252"), GERMAN * 9 + "Straße\n", "1 byte is"),
        ("ß\n".encode("cp1252") + (ASCII + GERMAN).encode(), "ß\n" + ASCII + GERMAN, "windows-1252"),
        ((GERMAN + "王小明").encode()[:-1], GERMAN + "王小", "2 bytes are"),
        ("Straß".encode()[:-1], "Stra", "1 byte is"),
        ("Price: 5 €".encode()[:-1], "Price: 5 ", "2 bytes are"),
        ("王小明，电话".encode()[1:-2], "小明，电", "3 bytes are"),
        ((GERMAN * 5).encode("cp1252") + GERMAN.encode(), GERMAN * 6, "windows-1252"),
        (("Договор\n" * 9).encode() + "Москва\n".encode("cp1251"), "Договор\n" * 9 + "Москва\n", "windows-1251"),
        (("联系人\n" * 9).encode() + "电话：张三\n".encode("gbk"), "联系人\n" * 9 + "电话：张三\n", "gb18030"),
        (b"\xef\xbb\xbf" + GERMAN.encode() + b"\xfc", GERMAN + "ü", "windows-1252"),
        ((GERMAN * 3).encode() + (GERMAN * 3).encode("cp1252"), GERMAN * 6, "9 bytes are"),
        (("联系人：王小明\n" * 30).encode("gbk") + b"\xff\n", "联系人：王小明\n" * 30 + "ÿ\n", "gb18030"),
        ("Größe".encode("utf-16") + b"x", "Größe\ufffd", "U+FFFD"),
        ((GERMAN * 9).encode("cp1252") + b"\x81", GERMAN * 9 + "\ufffd", "U+FFFD"),
    ],
    ids=[
        *(
            "appended",
            "prepended",
            "cut",
            "cut-word",
            "cut-sign",
            "cut-twice",
            "old-file",
            "russian-line",
            "chinese-line",
        ),
        *("marked", "mixed", "stray-in-gbk", "odd-utf-16", "undefined"),
    ],
)
def test_broken_bytes_affect_no_others_and_are_counted(data: bytes, text: str, note: str) -> None:
    read = decode(data)
    assert read.text == text
    assert note in (read.note or "")


@pytest.mark.parametrize(
    "data", [b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20, b"a\x00b" * 9, bytes(500)], ids=["png", "odd", "zeros"]
)
def test_a_file_without_text_is_refused(data: bytes) -> None:
    with pytest.raises(ExtractionError):
        decode(data)
