"""What answers cost that several subjects ask for."""

from typing import Any

TRACE = 2.0
EFFECTS = 4.0
OTHER_K = 2.0
"""rho for a null space of another dimension: about what a forward pass takes. That of the model's own is kept."""


def of_k(asked: Any) -> float:
    """asked: a request or a page's state with a `k`; None there: the model's own."""
    return 0.0 if asked.k is None else OTHER_K
