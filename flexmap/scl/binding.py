"""The OBIS binding in ``sAddr``: which COSEM attribute a data attribute shows.

``A-B:C.D.E.F;class;attribute``, for example ``1-0:1.8.0.255;4;2``. A signed value that COSEM splits has two,
the plus and the minus part, each with its sign in front: ``+1-0:3.7.0.255;4;2 -1-0:4.7.0.255;4;2``. Where COSEM
has the net value and the parts as well, all three stand, the net value first.
"""

from __future__ import annotations

import re

from flexmap.model import LocalError, Part, Register, obis

_SIGNS = {Part.NET: "", Part.PLUS: "+", Part.MINUS: "-"}
_PARTS = {sign: part for part, sign in _SIGNS.items()}
_ITEM = re.compile(r"([+-]?)(\d+-\d+:\d+\.\d+\.\d+\.\d+);(\d{1,5});(-?\d{1,3})")


def format_binding(registers: tuple[Register, ...]) -> str:
    """Return the ``sAddr`` of a point's registers."""
    return " ".join(f"{_SIGNS[r.part]}{r.obis};{r.class_id};{r.attribute}" for r in registers)


def parse_binding(text: str) -> tuple[Register, ...]:
    """Return the registers that an ``sAddr`` names.

    Raises LocalError, saying which word is wrong.
    """
    registers = []
    for word in text.split():
        match = _ITEM.fullmatch(word)
        if match is None:
            raise LocalError(f"'{word}' is not an OBIS binding such as 1-0:1.8.0.255;4;2")
        sign, code, class_id, attribute = match.groups()
        registers.append(Register(obis.text(obis.parse(code)), int(class_id), int(attribute), _PARTS[sign]))
    if not registers:
        raise LocalError("an empty sAddr binds nothing")
    parts = {register.part for register in registers}
    if len(parts) != len(registers) or (Part.PLUS in parts) != (Part.MINUS in parts):
        raise LocalError(f"'{text}' has to name one register, or one plus and one minus register")
    return tuple(registers)
