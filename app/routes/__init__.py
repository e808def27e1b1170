"""The page and API families. A module listed here has a `router`; main includes them in this order."""

FAMILIES: tuple[str, ...] = (
    "health",
    "metrics",
    "login",
    "permalinks",
    "notes",
    "lab",
    "selfcheck",
    "sweep_api",
    "sweep",
    "api",
    "prompt",
    "effects_api",
    "effects",
    "atlas_api",
    "atlas",
    "neuron",
    "nullspace",
    "frequency",
    "induction",
    "induction_page",
)
