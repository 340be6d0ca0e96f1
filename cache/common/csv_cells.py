r"""Texts in the cells of a CSV file that a spreadsheet can open without computing or obeying them.

The rule, for cells of text and for the names of columns; numbers are written as they are:

- control characters but the line feed, line separators, marks that turn the direction of writing, and lone surrogates
  become escapes: `\x1b`, `\u2028`. A backslash that happens to begin such an escape becomes `\x5c`.
- a text that begins with `=`, `+`, `-` or `@` (also in full width), which a spreadsheet takes for a formula, gets an
  apostrophe in front; so does one that begins with apostrophes and then one of these.

`cell_text` takes both back, so that names are found again.
"""

from __future__ import annotations

import re

_HEX = r"x(?:[01][0-9a-f]|7f|[89][0-9a-f]|5c)|u(?:202[89a-e]|206[6-9]|d[89a-f][0-9a-f]{2})"
_ESCAPE = re.compile(rf"\\({_HEX})")
_UNSAFE = re.compile(rf"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]|\\(?={_HEX})")
_FORMULA = re.compile("'*[=+\\-@\uff1d\uff0b\uff0d\uff20]")


def safe_cell(text: str) -> str:
    """Return a text as it is written into a cell."""
    escaped = _UNSAFE.sub(lambda match: _escape(ord(match[0])), text)
    return f"'{escaped}" if _FORMULA.match(escaped) else escaped


def cell_text(cell: str) -> str:
    """Return the text that `safe_cell` made a cell of; cells that it did not make nearly always come back unchanged."""
    plain = cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
    return _ESCAPE.sub(lambda match: chr(int(match[1][1:], 16)), plain)


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
