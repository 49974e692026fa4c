# ruff: noqa: RUF001  # letters that are easily confused are what this file is about
"""Letters that look like a Latin one: Cyrillic, Greek, Armenian, and Latin ones that Unicode does not decompose."""

from typing import Final

LOOK_ALIKES: Final = {
    "a": "аαɑ",
    "b": "ьвβƅ",
    "c": "сϲ",
    "d": "ԁđɗ",
    "e": "еєεҽ",
    "g": "ɡ",
    "h": "һнħ",
    "i": "іιıɩ",
    "j": "јϳ",
    "k": "кκ",
    "l": "ӏłⅼ",
    "m": "мⅿ",
    "n": "пηո",
    "o": "оοσøօ",
    "p": "рρ",
    "q": "ԛգ",
    "r": "гɾ",
    "s": "ѕʂ",
    "t": "тτŧ",
    "u": "υսʋ",
    "v": "ѵνⅴ",
    "w": "ѡԝωա",
    "x": "хχⅹ",
    "y": "уүγ",
    "z": "ᴢʐ",
}
