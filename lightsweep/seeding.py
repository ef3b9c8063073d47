"""Random streams, derived and never carried along: the same (seed, purpose, …) is the same stream.

So arms of a sweep are paired (same split, order, initial weights where shapes agree), an epoch can be
repeated exactly, and a resumed run equals an uninterrupted one.
"""

import hashlib


def derive(seed: int, purpose: str, *parts: int | str) -> int:
    """Return a stream's own seed, 0 … 2⁶³ − 1, from the trial's seed, its purpose and any further parts.

    >>> derive(0, "order", 1, 2) == derive(0, "order", 1, 2) != derive(0, "order", 12)
    True
    """
    text = "\x1f".join([str(seed), purpose, *(f"{type(part).__name__}:{part}" for part in parts)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1
