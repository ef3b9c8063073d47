"""Canonical JSON of plain content, and its hash."""

import hashlib
import json
from typing import Any


def canonical_json(content: Any) -> str:
    """Return the canonical JSON of plain content: keys sorted, no spaces, no NaN."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


def content_hash(content: Any) -> str:
    """Return the SHA-256 of `canonical_json(content)`, 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def plain_text(content: Any) -> str:
    """Return a string unchanged, and other plain content as canonical JSON."""
    return content if isinstance(content, str) else canonical_json(content)
