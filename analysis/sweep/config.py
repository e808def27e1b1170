"""What a sweep is asked to do: a frozen, hashable value. The same config over the same corpus gives the same bytes."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Protocol, runtime_checkable

from analysis.grammar import read_number
from analysis.kernels import choose
from analysis.model import Model
from analysis.store import sha256
from analysis.types import InputError, NeuronId, TokenFilter, unread

BaselineKind = Literal["mean", "filtered_mean", "zero", "percentile", "resample", "value"]
BackendChoice = Literal["auto", "eager", "compiled", "triton"]
MAX_NEURONS = 20_000


@runtime_checkable
class Shape(Protocol):
    """What the plan of a sweep needs to know of a model, which may lie elsewhere."""

    @property
    def last_layer(self) -> int: ...
    @property
    def d_mlp(self) -> int: ...
    @property
    def excluded_ids(self) -> frozenset[int]: ...


@dataclass(frozen=True, slots=True)
class SweepBaseline:
    """What an ablated activation becomes.

    mean: over all positions of this corpus, BOS included (the paper); filtered_mean: over the kept positions;
    percentile: ``value`` in 0..100, over a seeded sample of kept tokens; resample: at every token the activation of
    another, randomly drawn kept token (the same for every neuron); zero; value: ``value``.
    """

    kind: BaselineKind = "mean"
    value: float | None = None

    def __post_init__(self) -> None:
        if (self.kind in ("percentile", "value")) != (self.value is not None):
            raise InputError(f"The baseline {self.kind!r} {'needs a' if self.value is None else 'takes no'} value.")
        if self.value is not None and not math.isfinite(self.value):
            raise InputError("The baseline's value is not a finite number.")
        if self.kind == "percentile" and not 0 <= float(self.value or 0) <= 100:
            raise InputError(f"A percentile lies between 0 and 100, not at {self.value}.")

    @classmethod
    def parse(cls, text: str) -> SweepBaseline:
        """``mean``, ``filtered_mean``, ``zero``, ``resample``, ``percentile:90`` or a number."""
        name, _, argument = text.strip().partition(":")
        try:
            if name == "percentile":
                return cls("percentile", read_number(argument))
            if name in ("mean", "filtered_mean", "zero", "resample") and not argument:
                return cls(name)  # type: ignore[arg-type]  # one of the literals, by the test
            return cls("value", read_number(text))
        except (InputError, ValueError):
            raise InputError(
                unread(text, "a baseline"),
                code="bad_baseline",
                hint="Known: mean, filtered_mean, zero, resample, percentile:90, or a number.",
            ) from None

    def __str__(self) -> str:
        if self.kind == "value":
            return f"{self.value:g}"
        return self.kind if self.value is None else f"{self.kind}:{self.value:g}"


@dataclass(frozen=True, slots=True)
class SweepConfig:
    """Everything that decides the numbers of a sweep, beside the model and the documents.

    neurons: None for every last-layer neuron; others take a forward pass for each row. n_rows: a seeded sample of the
    corpus' rows; None: all. length: tokens in a row; None: min(n_ctx, 256). shard_rows: rows in one durable unit.
    bootstrap: replicates. sample_tokens: tokens whose values are kept for scatter plots. examples: kept on each list.
    split_at_end: the end-of-text token inside a document (``<|endoftext|>``) ends it, so that no row runs across.
    keep_sinks: the mean counts first tokens that are attention sinks, too; by default it leaves them out.
    backend, threads: fixed for the run, because they decide the last bits.
    """

    neurons: tuple[NeuronId, ...] | None = None
    n_rows: int | None = None
    length: int | None = None
    seed: int = 0
    baseline: SweepBaseline = field(default_factory=SweepBaseline)
    token_filter: TokenFilter = field(default_factory=TokenFilter)
    shard_rows: int = 8
    bootstrap: int = 200
    sample_tokens: int = 512
    examples: int = 8
    bins: int = 48
    max_documents: int | None = None
    backend: BackendChoice = "auto"
    threads: int = 1
    split_at_end: bool = False
    keep_sinks: bool = False

    def __post_init__(self) -> None:
        for name in ("n_rows", "length", "shard_rows", "sample_tokens", "examples", "bins", "max_documents", "threads"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise InputError(f"{name} of a sweep must be at least 1, not {number}.")
        if not 0 <= self.bootstrap <= 10_000:
            raise InputError(f"bootstrap takes 0 to 10,000 replicates, not {self.bootstrap}.")
        if self.neurons is not None and not 1 <= len(self.neurons) <= MAX_NEURONS:
            raise InputError(f"Name 1 to {MAX_NEURONS:,} neurons, or none for the whole last layer.", code="no_neurons")

    def settled(self, model: Model) -> SweepConfig:
        """The config with every choice left open made for this model: length, backend, neurons sorted and checked."""
        length = self.length or min(model.n_ctx, 256)
        if not 2 <= length <= model.n_ctx:
            raise InputError(f"Rows of {length} tokens do not fit {model.key}, which reads 2 to {model.n_ctx}.")
        backend = choose(self.backend, device=model.device).name
        neurons = self.neurons
        if neurons is not None:
            neurons = tuple(sorted({model.check_neuron(neuron) for neuron in neurons}))
        return replace(self, length=length, backend=backend, neurons=neurons)  # type: ignore[arg-type]

    def chosen(self, model: Shape) -> tuple[NeuronId, ...]:
        """The neurons by name, sorted by layer and index: the order of every array of the sweep."""
        if self.neurons is None:
            return tuple(NeuronId(model.last_layer, index) for index in range(model.d_mlp))
        return tuple(sorted(set(self.neurons)))

    def as_json(self) -> dict[str, Any]:
        values = asdict(self)
        if not self.split_at_end:  # runs that began before there was the choice go on
            del values["split_at_end"]
        if not self.keep_sinks:  # likewise; where there is no sink it makes no difference
            del values["keep_sinks"]
        return {
            **values,
            "neurons": None if self.neurons is None else [str(neuron) for neuron in self.neurons],
            "baseline": str(self.baseline),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> SweepConfig:
        """What `as_json` gave; InputError for unknown keys."""
        known = {**value}
        try:
            if known.get("neurons") is not None:
                known["neurons"] = tuple(NeuronId.parse(name) for name in known["neurons"])
            if isinstance(known.get("baseline"), str):
                known["baseline"] = SweepBaseline.parse(known["baseline"])
            if isinstance(known.get("token_filter"), dict):
                known["token_filter"] = TokenFilter(**known["token_filter"])
            return cls(**known)
        except TypeError as error:
            raise InputError(f"That is no sweep config: {error}", code="bad_config") from None

    @property
    def sha256(self) -> str:
        return sha256(json.dumps(self.as_json(), sort_keys=True).encode())
