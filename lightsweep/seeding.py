"""Seeds of random streams, derived statelessly: the same (seed, purpose, …) gives the same stream.

So a sweep's arms are paired (same split, order, and initial weights where shapes agree), an epoch can be
repeated exactly, and a resumed run equals an uninterrupted one.
"""

import hashlib


def derive(seed: int, purpose: str, *parts: int | str) -> int:
    """Return a stream's seed, 0 … 2⁶³ − 1, from the trial's seed, the purpose and any further parts.

    >>> derive(0, "order", 1, 2) == derive(0, "order", 1, 2) != derive(0, "order", 12)
    True
    """
    text = "\x1f".join([str(seed), purpose, *(f"{type(part).__name__}:{part}" for part in parts)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1
