"""The devices of the setting that this machine has."""

import torch

from analysis.types import InputError


def devices(setting: str) -> list[str]:
    """The device names of the setting; auto: cuda, then mps, then cpu."""
    if setting != "auto":
        return [_present(name) for name in dict.fromkeys(part.strip() for part in setting.split(","))]
    if torch.cuda.is_available():
        return ["cuda"]
    return ["mps" if torch.backends.mps.is_available() else "cpu"]


def _present(name: str) -> str:
    """A device name, or InputError when this machine has no such device."""
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError):  # whatever the backend raises when it is not there
        raise InputError(
            f"There is no device {name!r} here.", code="no_such_device", hint=f"There is: {', '.join(devices('auto'))}."
        ) from None
    return name
