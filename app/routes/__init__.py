"""The page and API families. A module listed here has a `router`; main includes them in this order."""

FAMILIES: tuple[str, ...] = (
    "health",
    "api",
    "prompt",
    "atlas_api",
    "atlas",
    "induction",
)
