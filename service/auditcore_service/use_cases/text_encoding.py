"""Text of files that editors and spreadsheets write on any system."""

from __future__ import annotations

import codecs
import unicodedata

_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))

BYTE_ORDER_MARK = "\ufeff"
"""What a byte order mark looks like in text that was decoded without regard to it."""


def composed(text: str) -> str:
    """Return a text with accents in one form, that of keyboards (NFC); macOS writes another one into names of files."""
    return unicodedata.normalize("NFC", text)


def decode_text(data: bytes) -> str:
    """Return the text of a file in UTF-8, or in UTF-16 if it begins with a byte order mark; the mark is removed.

    PowerShell and Excel write such marks.

    Args:
        data: The file.

    Raises:
        UnicodeDecodeError: The bytes are no text.
    """
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    return data.decode(encoding)
