"""Which sweep the labels rest on, in a shell."""

from typing import Any

from app.core.shell.output import escaped

SWEEP_HELP = "The finished sweep whose evidence counts, or none; the largest that fits by default."


def speaking(evidence: dict[str, Any]) -> str:
    """One line: which sweep the labels rest on."""
    sweep = evidence["sweep"]
    if sweep is None:
        return "labels rest on the weights only"
    why = "chosen" if evidence["chosen"] else "the largest that fits"
    return (
        f"labels rest on the weights and on the sweep {sweep['id']}: {sweep['rows']} rows, {sweep['tokens']} tokens of "
        f"{escaped(sweep['source'])}, baseline {sweep['baseline']}; {why}"
    )
