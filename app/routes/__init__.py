"""The page and API families. A module listed here has a `router`; main includes them in this order."""

FAMILIES: tuple[str, ...] = (
    "health",
    "api",
    "prompt",
    "effects_api",
    "effects",
    "atlas_api",
    "atlas",
    "neuron",
    "induction",
    "induction_page",
)
