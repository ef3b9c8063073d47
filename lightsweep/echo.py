"""Makes untrusted text safe to show: escaped, shortened, and with secrets masked.

An arm's name, a host name, a path or an error message may contain anything. Printed unchanged, an escape
sequence moves the cursor, a bidirectional control of Unicode reverses a line, and a database URL reveals its
password.
"""

import re

MOST_CHARACTERS = 1_000
"""Maximum length of a line; longer lines lose their middle, since both ends matter."""

# C0 and C1 controls, DEL, zero-width and invisible characters, line and paragraph separators, bidirectional
# controls (https://www.unicode.org/reports/tr9/#Directional_Formatting_Characters), lone surrogates.
_CONTROLS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)
_LAYOUT = "\n\t"
_PASSWORD = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:/{1,2}[^\s'\":@/]*):[^\s'\"]*@")
_SECRET = re.compile(
    r"(?i)\b([a-z0-9_-]*(?:password|passwd|secret|token|api_?key))(\s*[=:]\s*)([^\s,;&'\"]+)"
)


def one_line(text: object, most: int = MOST_CHARACTERS) -> str:
    r"""Return text as one line, with white space collapsed, controls escaped as by `plain`, and shortened.

    >>> one_line("a\x1b[2J\n  b")
    'a\\x1b[2J b'
    """
    return shortened(plain(" ".join(str(text).split())), most)


def plain(text: str) -> str:
    r"""Return text with controls escaped as in Python (`\x1b`), except for line breaks and tabs.

    >>> plain("left \u202e right")
    'left \\u202e right'
    """
    return _CONTROLS.sub(lambda found: found[0] if found[0] in _LAYOUT else _escape(found[0]), text)


def shortened(text: str, most: int = MOST_CHARACTERS) -> str:
    """Return text of at most about `most` characters, without its middle if it is longer.

    >>> shortened("abcdefghij", 5)
    'ab … ij'
    """
    if len(text) <= most:
        return text
    return f"{text[: most // 2]} … {text[-(most // 2) :]}"


def masked(text: str) -> str:
    """Return text with passwords in URLs, and values named password, secret or token, masked.

    >>> masked("postgresql://me:pass@host/db and token=abc")
    'postgresql://me:…@host/db and token=…'
    """
    return _SECRET.sub(r"\1\2…", _PASSWORD.sub(r"\1:…@", text))


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
