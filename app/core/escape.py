"""Text of models and users made visible: white space, control and direction marks, broken characters.

Escaping for HTML is Jinja's work; this decides what a reader sees in place of what has no picture.
"""

import unicodedata

_NAMED = {" ": "␣", "\n": "⏎", "\r": "␍", "\t": "⇥", "\u00a0": "⍽", "\u0000": "␀"}
# Cf: direction marks, zero-width characters. Co, Cs, Cn: private, surrogate, unassigned. Zl, Zp, Cc: breaks, controls.
_HIDDEN = {"Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"}


def visible(text: str) -> str:
    """`text` with every character that has no picture, or that would move its neighbours, written out."""
    return "".join(_shown(char) for char in text)


def _shown(char: str) -> str:
    if char in _NAMED:
        return _NAMED[char]
    category = unicodedata.category(char)
    if category in _HIDDEN or (category == "Zs"):
        return f"⟨{ord(char):04X}⟩"
    return char
