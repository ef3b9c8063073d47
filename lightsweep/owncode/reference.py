"""References to code: the name of something shipped, or FILE.py:function, with the digest of its sources.

A sweep file says `nets/tiny.py:build`. Reading the sweep file appends the digest of the sources,
`nets/tiny.py:build@3fa9c1d2e4b5a697`: from then on the reference names one version of the code wherever it
goes, to the workers and into the run's folder. The sources themselves are kept by that digest.
"""

import re
from dataclasses import dataclass
from typing import Any

_REFERENCE = re.compile(
    r"(?P<file>[^\n]*?[^\n/\\]\.py):(?P<function>[A-Za-z_]\w*)(?:@(?P<digest>[0-9a-f]{16}))?"
)
REFERENCE_PATTERN = r"\.py:[A-Za-z_]\w*(@[0-9a-f]{16})?$"
"""Pattern of references, for the JSON Schema."""
_DIGEST = re.compile(r"(\.py:[A-Za-z_]\w*)@[0-9a-f]{16}\b")


@dataclass(frozen=True)
class Reference:
    """A parsed reference to code of the user's own."""

    file: str
    """Path of the file, relative to the sweep file's folder, with /."""
    function: str
    """Name of a function or class at the top level of the file."""
    digest: str | None
    """First 16 hexadecimal digits of the sources' hash; None if the sources are not read yet."""

    def __str__(self) -> str:
        """Return the reference as it is written in resolved settings."""
        return f"{self.file}:{self.function}" + (f"@{self.digest}" if self.digest else "")


def parse_reference(text: object) -> Reference | None:
    """Return the reference that a text is, or None for the name of something shipped."""
    found = _REFERENCE.fullmatch(text) if isinstance(text, str) else None
    return Reference(found["file"], found["function"], found["digest"]) if found else None


def references_in(content: Any) -> set[Reference]:
    """Return all references in plain content, such as a sweep's settings."""
    if isinstance(content, dict):
        return {found for value in content.values() for found in references_in(value)}
    if isinstance(content, list | tuple):
        return {found for value in content for found in references_in(value)}
    reference = parse_reference(content)
    return {reference} if reference else set()


def without_digests(text: str) -> str:
    """Return a text for the user's eyes: references in it as the sweep file has them.

    >>> without_digests("net nets/tiny.py:build@3fa9c1d2e4b5a697")
    'net nets/tiny.py:build'
    """
    return _DIGEST.sub(r"\1", text)
