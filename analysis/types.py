"""The words every other module speaks: neurons, heads, baselines, interventions, token filters, errors.

A neuron is written ``layer.index`` (``"11.2378"``), positions count from 0 and include BOS where it is present,
entropies, losses and divergences are in nats.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Baseline = Literal["mean", "prompt_mean", "zero"] | float
"""What an ablated activation is set to: the model's reference mean, the mean over this prompt, zero, or a value."""

Mode = Literal["mean", "zero", "value", "scale", "clip"]

HeadMode = Literal["bos", "mean", "zero"]
"""What a head writes instead: what it reads off position 0 alone, its mean, or nothing."""


class NullscopeError(Exception):
    """An error meant for a person: what happened, and what to do about it."""

    code = "error"
    computed = False  # whether the model had been put to work for it by then

    def __init__(self, message: str, *, code: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or type(self).code

    @property
    def told(self) -> str:
        """What happened and what to do, on one line."""
        return one_line(self.message, self.hint)


def one_line(message: str, hint: str | None) -> str:
    """What happened and what to do, as sentences: a reason quoted from elsewhere may end without its full stop."""
    if not hint:
        return message
    return f"{message}{'' if message.endswith(('.', '!', '?', ':')) else '.'} {hint}"


class InputError(NullscopeError):
    """The request cannot be carried out as it stands."""

    code = "invalid_input"


def check_position(position: int, n_tokens: int) -> None:
    """InputError for a position that the text has not."""
    if not 0 <= position < n_tokens:
        raise InputError(
            f"Position {position} is not in the text.",
            code="position_out_of_range",
            hint=f"Positions run from 0 to {n_tokens - 1}.",
        )


class NotFoundError(NullscopeError):
    """The thing named does not exist here."""

    code = "not_found"


class NotReadyError(NullscopeError):
    """The thing asked for is being made and will exist later (a reference mean, a model that is loading)."""

    code = "not_ready"


class CapacityError(NullscopeError):
    """It does not fit; the message carries both numbers."""

    code = "does_not_fit"


class DiskFullError(NullscopeError):
    """What was to be written found no room on the disk; nothing of it is left."""

    code = "disk_full"


class UnsupportedModelError(NullscopeError):
    """The model is not served: the mathematics here would be wrong for it, or its folder is not whole."""

    code = "unsupported_model"


def unread(text: str, what: str, most: int = 40) -> str:
    """Why a text that somebody wrote is not ``what``, as a sentence."""
    return f"{text[:most]!r} is not {what}." if text.strip() else f"Nothing is written where {what} is wanted."


NEURON = r"([0-9]{1,4})\.([0-9]{1,7})"
"""How a neuron is written, `layer.index`, as a regular expression."""

HEAD = r"([0-9]{1,4})\.([0-9]{1,4})"
"""How a head is written, `layer.head`."""


@dataclass(frozen=True, slots=True)
class ModelId:
    """Which model, exactly: all that its numbers follow from but the code. A name may stand for another one tomorrow.

    weights_sha256: of its files of weights. form_sha256: of its configuration and its tokenizer.
    """

    weights_sha256: str
    dtype: str
    form_sha256: str


@dataclass(frozen=True, order=True, slots=True)
class NeuronId:
    """An MLP neuron: ``layer`` from 0, ``index`` into ``d_mlp`` from 0."""

    layer: int
    index: int

    @classmethod
    def parse(cls, text: str) -> NeuronId:
        match = re.fullmatch(NEURON, text)
        if match is None:
            hint = "Write layer.index, for example 11.2378."
            raise InputError(unread(text, "a neuron"), code="invalid_neuron", hint=hint)
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.layer}.{self.index}"

    def check(self, *, n_layers: int, d_mlp: int) -> NeuronId:
        """Itself, or NotFoundError when the model has no such neuron."""
        if self.layer >= n_layers or self.index >= d_mlp:
            raise NotFoundError(
                f"There is no neuron {self}.",
                code="no_such_neuron",
                hint=f"Layers run from 0 to {n_layers - 1}, neurons from 0 to {d_mlp - 1}.",
            )
        return self


@dataclass(frozen=True, order=True, slots=True)
class HeadId:
    """An attention head, written ``layer.head``."""

    layer: int
    head: int

    @classmethod
    def parse(cls, text: str) -> HeadId:
        """From ``5.1`` or ``L5H1``; InputError."""
        match = re.fullmatch(rf"{HEAD}|L([0-9]{{1,4}})H([0-9]{{1,4}})", text)
        if match is None:
            hint = "Write layer.head, such as 5.1 or L5H1."
            raise InputError(unread(text, "a head"), code="invalid_head", hint=hint)
        layer, head = (digits for digits in match.groups() if digits is not None)
        return cls(int(layer), int(head))

    def __str__(self) -> str:
        return f"{self.layer}.{self.head}"

    def check(self, *, n_layers: int, n_heads: int) -> HeadId:
        """Itself, or InputError when the model has no such head."""
        if self.layer >= n_layers or self.head >= n_heads:
            raise InputError(
                f"There is no head {self}.",
                code="no_such_head",
                hint=f"Layers run from 0 to {n_layers - 1}, heads from 0 to {n_heads - 1}.",
            )
        return self


@dataclass(frozen=True, slots=True)
class Span:
    """Positions ``start`` to ``stop``, half-open."""

    start: int
    stop: int


Positions = tuple[int, ...] | Span | None


@dataclass(frozen=True, slots=True)
class Intervention:
    """What happens to one neuron's activation, and where.

    ``mean``: set to the reference mean; ``zero``; ``value``: set to ``value``; ``scale``: multiplied by ``value``;
    ``clip``: kept at or above ``min`` and at or below ``max`` (either or both). ``positions`` None means all.
    """

    neuron: NeuronId
    mode: Mode
    value: float | None = None
    min: float | None = None
    max: float | None = None
    positions: Positions = None

    def __post_init__(self) -> None:
        for name in ("value", "min", "max"):
            number = getattr(self, name)
            if number is not None and not math.isfinite(number):
                raise InputError(f"{name} of the intervention on {self.neuron} is not a finite number.")
        if self.mode in ("value", "scale") and self.value is None:
            raise InputError(f"The intervention {self.mode!r} on {self.neuron} needs a value.")
        if self.mode == "clip":
            if self.min is None and self.max is None:
                raise InputError(f"Clipping {self.neuron} needs min, max or both.")
            if self.min is not None and self.max is not None and self.min > self.max:
                raise InputError(f"Clipping {self.neuron}: min {self.min} is above max {self.max}.")

    @property
    def target(self) -> NeuronId:
        return self.neuron

    def at(self, n_positions: int) -> range | tuple[int, ...]:
        """The positions touched in a text of ``n_positions`` tokens; InputError when one lies outside."""
        return _touched(self.positions, n_positions, f"neuron {self.neuron}")


@dataclass(frozen=True, slots=True)
class HeadIntervention:
    """What an attention head writes, and where. Mode "mean": its mean over the text at hand, run clean."""

    head: HeadId
    mode: HeadMode = "bos"
    positions: Positions = None

    @property
    def target(self) -> HeadId:
        return self.head

    def at(self, n_positions: int) -> range | tuple[int, ...]:
        """The positions touched in a text of ``n_positions`` tokens; InputError when one lies outside."""
        return _touched(self.positions, n_positions, f"head {self.head}")


def _touched(positions: Positions, n_positions: int, target: str) -> range | tuple[int, ...]:
    if positions is None:
        return range(n_positions)
    if isinstance(positions, Span):
        start, stop = positions.start, positions.stop
        if not 0 <= start < stop <= n_positions:
            raise InputError(
                f"The range {start} to {stop} of the intervention on {target} does not lie in the {n_positions} "
                "positions of the text.",
                code="position_out_of_range",
                hint="start counts from 0 and stop is not included.",
            )
        return range(start, stop)
    for position in positions:
        if not 0 <= position < n_positions:
            raise InputError(
                f"Position {position} of the intervention on {target} is not in the text.",
                code="position_out_of_range",
                hint=f"Positions run from 0 to {n_positions - 1}.",
            )
    return positions


def reference_not_ready() -> NotReadyError:
    """The one wording of "the mean baseline does not exist yet"."""
    return NotReadyError(
        "The reference means of this model have not been computed yet.",
        code="baseline_not_ready",
        hint="Wait for them, or choose the baseline 'zero' or 'prompt_mean'.",
    )


def check_disjoint(interventions: Iterable[Intervention | HeadIntervention], n_positions: int) -> None:
    """InputError when two interventions touch one neuron or head at one position."""
    seen: dict[NeuronId | HeadId, set[int]] = {}
    for intervention in interventions:
        target = intervention.target
        touched = set(intervention.at(n_positions))
        both = seen.setdefault(target, set()) & touched
        if both:
            raise InputError(
                f"Two interventions touch {'head' if isinstance(target, HeadId) else 'neuron'} {target} at position "
                f"{min(both)}.",
                code="overlapping_interventions",
                hint="Keep one of them, or give them different positions.",
            )
        seen[target] |= touched


@dataclass(frozen=True, slots=True)
class TokenFilter:
    """Which positions of a row count in averages over a corpus.

    The defaults are the paper's: positions ``first`` to ``length - 1 - last`` of a row, the token itself not one of
    ``excluded`` (BOS, EOS; newline too in GPT models) and not followed by one. Without ``exclude_specials`` the
    positions alone decide.
    """

    first: int = 3
    last: int = 1
    exclude_specials: bool = True
