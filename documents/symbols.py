"""Characters of Microsoft's symbol fonts as Unicode: `w:sym` names them by their place in the font."""

from typing import Final

__all__ = ["symbol"]

_SYMBOL: Final = (
    " !∀#∃%&∋()∗+,−./0123456789:;<=>?≅ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ[∴]⊥_‾αβχδεφγηιϕκλμνοπθρστυϖωξψζ{|}∼"
    "                                 €ϒ′≤⁄∞ƒ♣♦♥♠↔←↑→↓°±″≥×∝∂•÷≠≡≈…|—↵ℵℑℜ℘⊗⊕∅∩∪⊃⊇⊄⊂⊆∈∉∠∇®©™∏√⋅¬∧∨⇔⇐⇑⇒⇓◊〈®©™∑"
)
"""Of the font Symbol, from 0x20 on."""
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
    """Return the character at `code` (with or without the offset 0xF000); empty for an ornament without a meaning."""
    place = code - 0xF000 if 0xF000 <= code <= 0xF0FF else code
    match font.lower():
        case "symbol":
            return _SYMBOL[place - 0x20] if 0 <= place - 0x20 < len(_SYMBOL) else ""
        case "wingdings":
            return _WINGDINGS.get(place, "")
        case "wingdings 2":
            return _WINGDINGS_2.get(place, "")
        case _:
            return "" if 0xE000 <= code <= 0xF8FF or not 0 < code < 0x110000 else chr(code)
