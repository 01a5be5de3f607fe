"""Maps characters of Microsoft's symbol fonts to Unicode: `w:sym` identifies them by their code in the font."""

from typing import Final

__all__ = ["symbol"]

_SYMBOL: Final = (
    " !∀#∃%&∋()∗+,−./0123456789:;<=>?≅ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ[∴]⊥_‾αβχδεφγηιϕκλμνοπθρστυϖωξψζ{|}∼"
    "                                 €ϒ′≤⁄∞ƒ♣♦♥♠↔←↑→↓°±″≥×∝∂•÷≠≡≈…|—↵ℵℑℜ℘⊗⊕∅∩∪⊃⊇⊄⊂⊆∈∉∠∇®©™∏√⋅¬∧∨⇔⇐⇑⇒⇓◊〈®©™∑"
)
"""Characters of the font Symbol, from code 0x20."""
_WINGDINGS: Final = {
    0x22: "✂",
    0x28: "☎",
    0x2A: "✉",
    0x6C: "●",
    0x6E: "■",
    0x6F: "□",
    0x9F: "•",
    0xA7: "▪",
    0xA8: "◻",
    0xD8: "➢",
    0xDF: "←",
    0xE0: "→",
    0xE1: "↑",
    0xE2: "↓",
    0xFB: "✗",
    0xFC: "✓",
    0xFD: "☒",
    0xFE: "☑",
}
_WINGDINGS_2: Final = {0x4F: "✗", 0x50: "✓", 0x51: "☒", 0x52: "☑", 0x53: "☒", 0x54: "☑", 0xA3: "□"}


def symbol(font: str, code: int) -> str:
    """Return the character at `code` (with or without the offset 0xF000); empty for an ornament without meaning."""
    offset = code - 0xF000 if 0xF000 <= code <= 0xF0FF else code
    match font.lower():
        case "symbol":
            return _SYMBOL[offset - 0x20] if 0 <= offset - 0x20 < len(_SYMBOL) else ""
        case "wingdings":
            return _WINGDINGS.get(offset, "")
        case "wingdings 2":
            return _WINGDINGS_2.get(offset, "")
        case _:
            return "" if 0xE000 <= code <= 0xF8FF or not 0 < code < 0x110000 else chr(code)
