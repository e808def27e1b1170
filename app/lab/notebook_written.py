"""The values behind the cells that write a text again, from a stored `generate` or `dial`."""

from collections.abc import Mapping
from typing import Any

from analysis.types import InputError
from app.lab import cells_written as cells

KINDS = frozenset({"generate", "dial"})


def start(options: Mapping[str, Any]) -> str:
    """Behind MODEL and TOKENS."""
    names = {"TOP_K": options["top_k"], "TOP_P": options["top_p"], "APPLY_TO": options.get("apply_to", "all")}
    return "".join(f"{name} = {value!r}\n" for name, value in names.items()) + f"\n{cells.START}"


def generated(options: Mapping[str, Any], answer: Mapping[str, Any], turned: list[dict[str, Any]]) -> str:
    """Every step's choice, entropy and probability. turned: the interventions, means as values."""
    if any("head" in item for item in turned):
        raise InputError(
            "There is no notebook for a text that was written without some attention heads yet.",
            code="no_notebook",
            hint="Its JSON and Python give the same numbers.",
        )
    steps = [{name: step[name] for name in ("position", "id", "entropy", "prob")} for step in answer["tokens"]]
    given = len(options.get("written", ()))
    return (
        f"STEPS = {steps!r}\nGIVEN = {given}  # the first so many were handed over, not drawn\n"
        f"TEMPERATURE, SEED = {options['temperature']!r}, {options['seed']!r}\n"
        f"INTERVENTIONS = {turned!r}\n\n{cells.GENERATE}"
    )


def dialled(options: Mapping[str, Any], answer: Mapping[str, Any]) -> str:
    """Every text of every arm."""
    arms = [
        {
            "name": arm["name"],
            "temperature": arm["temperature"],
            "texts": [
                {name: text[name] for name in ("seed", "token_ids", "entropy", "numbers")}
                | {"items": _turned(options, arm, text)}
                for text in arm["texts"]
            ],
        }
        for arm in answer["arms"]
    ]
    return f"ARMS = {arms!r}\nTEMPERATURE = {options['temperature']!r}\n\n{cells.DIAL}"


def _turned(options: Mapping[str, Any], arm: Mapping[str, Any], text: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is done to which neurons, in this text."""
    mode, value, neurons = "scale", text["factor"], text["neurons"]
    if arm["kind"] == "dial":
        dial = options["dials"][arm["dial"]]
        mode, value, neurons = dial["mode"], dial["value"], arm["neurons"]
    elif arm["kind"] != "neurons":
        return []
    return [{"neuron": neuron, "mode": mode, "value": value, "positions": None} for neuron in neurons]
