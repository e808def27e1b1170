"""Which stored sweep speaks for the atlas and the labels of a model, and what it says.

Fitting are finished sweeps of the same weights over the whole last layer, made with the rules' baseline in the
precision that the model is served in. The largest of them speaks for everybody; a person may choose another one. One
that ships with a model may have measured a part of the layer with a random draw of the others: it speaks for those, and
after any that is whole.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from analysis.evidence import evidence_of
from analysis.labels import Evidence
from analysis.registry import ModelSpec
from analysis.store import RESULT, RunFolder, read_json, sha256
from analysis.sweep.run import read
from analysis.types import InputError, NotFoundError
from app.core.errors import ConflictError
from app.core.residency.cache import EVERYWHERE, Key, Kind
from app.core.residency.host import ModelHost

T = TypeVar("T")

NONE = "none"  # chosen: no sweep speaks, labels rest on the weights alone
RULE_BASELINES = ("mean", "filtered_mean")
"""The thresholds of the labels are about mean ablation (METHODS section 3): other baselines have other effects."""

EVIDENCE = Kind("evidence", "analysis.sweep")
RESULTS = Kind("sweep", "analysis.sweep")


SWEEP_BASELINES = {
    "mean": "mean over the sweep's own rows",
    "filtered_mean": "mean over the kept tokens of the sweep's own rows",
    "resample": "resampled from the sweep's own rows",
}


def baseline_text(baseline: str) -> str:
    """How a sweep's baseline is named beside others: its means are over the text that it was made over, the mean of
    the prompt page is the model's reference mean."""
    return SWEEP_BASELINES.get(baseline, baseline)


def sweep_name(named: str, neurons: int | None, source: str, baseline: str, rows: int | None) -> str:
    """How a sweep is called wherever it is named: as somebody called it, else by what it holds, such as "every
    last-layer neuron over sample text of demo, set to the mean".

    neurons: how many were chosen; None: the whole last layer. rows: how many were asked for; None: all.
    """
    done = {"mean": "set to the mean", "zero": "set to 0"}.get(baseline, f"baseline {baseline}")
    what = "every last-layer neuron" if neurons is None else f"{neurons} chosen neuron{'s' if neurons != 1 else ''}"
    return named or f"{what} over {source}{f', {rows} rows' if rows else ''}, {done}"


def submitted_name(config: Mapping[str, Any]) -> str:
    """`sweep_name` of what a sweep's job keeps. (Those of before could not be called.)"""
    sweep = config["sweep"]
    neurons = sweep["neurons"]
    chosen = None if neurons is None else len(neurons)
    return sweep_name(config.get("name", ""), chosen, config["source"], sweep["baseline"], sweep["n_rows"])


@dataclass(frozen=True, slots=True)
class StoredSweep:
    """A finished sweep, as far as the choice needs it.

    tokens: kept ones, over which it averages. whole: every neuron of the last layer. created: seconds since 1970; 0 of
    one that ships with the model. digest: of its manifest and result, so that equal digests are equal numbers.
    neurons: how many it has measured where it is not whole. ships: with the model. name: `sweep_name`.
    """

    id: str
    weights_sha256: str
    dtype: str
    baseline: str
    whole: bool
    rows: int
    tokens: int
    source: str
    created: float
    digest: str
    neurons: int | None = None
    ships: bool = False
    name: str = ""

    def fits(self, weights_sha256: str, dtype: str) -> bool:
        """Whether it may speak for a model served in ``dtype`` without being chosen."""
        same = _wide(self.dtype) == _wide(dtype)
        return self.may_speak(weights_sha256) and same and self.baseline in RULE_BASELINES

    def may_speak(self, weights_sha256: str) -> bool:
        """Whether it may be chosen."""
        return (self.whole or self.ships) and self.weights_sha256 == weights_sha256


def ships(spec: ModelSpec, folder: RunFolder) -> bool:
    """Whether a run folder is the one that lies where what ships of a model lies."""
    return spec.home is not None and folder.path.resolve() == (spec.home / "sweep").resolve()


def stored(sweep_id: str, folder: RunFolder, created: float, named: str = "") -> StoredSweep | None:
    """What lies in a run folder; None while there is no result, or it cannot be read."""
    try:
        manifest, summary = folder.manifest(), read_json(folder.path / RESULT)
        config, text = manifest["config"], manifest["corpus"]
        chosen = None if config["neurons"] is None else len(config["neurons"])
        return StoredSweep(
            id=sweep_id,
            weights_sha256=manifest["weights_sha256"],
            dtype=manifest["dtype"],
            baseline=config["baseline"],
            whole=config["neurons"] is None,
            rows=summary["n_rows"],
            tokens=summary["n_tokens"],
            source=text["source"],
            created=created,
            digest=sha256(repr((manifest, summary["files"])).encode()),
            neurons=chosen,
            ships=not created,
            name=sweep_name(named, chosen, text["source"], config["baseline"], config.get("n_rows")),
        )
    except (NotFoundError, InputError, KeyError, TypeError, OSError):
        return None


def by_size(sweeps: Iterable[StoredSweep]) -> list[StoredSweep]:
    """Whole ones, and the most tokens, first; of equally large ones that which was there first, so that a repetition
    changes nothing."""
    return sorted(sweeps, key=lambda each: (not each.whole, -each.tokens, -each.rows, each.created, each.id))


@dataclass(frozen=True, slots=True)
class Findings:
    """What the sweep that speaks has found.

    neurons: Evidence by name. sweep: None when none speaks. chosen: whether a person named it. choices: every sweep
    that may be chosen, the largest first; fitting: the ids of those that may speak unasked.
    """

    neurons: Mapping[str, Evidence] = field(default_factory=dict)
    sweep: StoredSweep | None = None
    chosen: bool = False
    choices: tuple[StoredSweep, ...] = ()
    fitting: frozenset[str] = frozenset()

    @property
    def digest(self) -> str:
        """Equal where the evidence is: part of the key of whatever is kept that follows from it."""
        return self.sweep.digest if self.sweep else NONE


def speaker(choices: Iterable[StoredSweep], weights_sha256: str, dtype: str, wanted: str | None) -> StoredSweep | None:
    """The one that is wanted, else the largest that fits; None where none does, or none is wanted.

    NotFoundError for an id that is not among the choices, ConflictError for one that cannot speak for these weights.
    """
    every = list(choices)
    if wanted is None:
        return next(iter(by_size(each for each in every if each.fits(weights_sha256, dtype))), None)
    if wanted == NONE:
        return None
    able = [each for each in every if each.may_speak(weights_sha256)]
    if (found := next((each for each in able if each.id == wanted), None)) is not None:
        return found
    names = f"Those that can: {', '.join(each.id for each in by_size(able)) or NONE}."
    if any(each.id == wanted for each in every):
        raise ConflictError(
            f"The sweep {wanted} cannot speak for this model: it was made with other weights, or does not cover the "
            "whole last layer.",
            code="sweep_does_not_fit",
            hint=names,
        )
    raise NotFoundError(f"No finished sweep of this model is called {wanted!r}.", code="no_such_sweep", hint=names)


@dataclass(frozen=True)
class Kept:
    """What was read of stored sweeps, kept as long as a model of their weights is served."""

    host: ModelHost

    def __call__(self, kind: Kind, sweep: StoredSweep, read: Callable[[], T | None]) -> T | None:
        """What `read` gives; None, which is not kept, where the files are damaged."""
        models = (entry.identity for entry in list(self.host.entries.values()))
        model = next((each for each in models if each and each.weights_sha256 == sweep.weights_sha256), None)
        if model is None:
            return read()
        key = Key(model, kind, EVERYWHERE, (sweep.digest,))
        found: T | None = self.host.cache.get(key)
        if found is None and (found := read()) is not None:
            self.host.cache.put(key, found)
        return found


class Speakers:
    """The finished sweeps of each model and what the speaking one has found. Reads files: not for the event loop.

    ``ended``: (id, created) of a model's sweeps that have finished; ``bundled``: of the one that ships with it.
    ``named``: how somebody called one of those, or "".
    """

    def __init__(
        self,
        ended: Callable[[str], Iterable[tuple[str, float]]],
        bundled: Callable[[str], Iterable[tuple[str, float]]],
        folder: Callable[[str], RunFolder],
        dtype: str,
        kept: "Kept",
        named: Callable[[str], str] = lambda sweep_id: "",
    ) -> None:
        self._ended, self._bundled, self._folder, self._dtype, self._kept = ended, bundled, folder, dtype, kept
        self._named = named
        self._known: dict[str, StoredSweep] = {}  # a sweep that has finished stays as it is

    def findings(self, model: str, weights_sha256: str, wanted: str | None = None) -> Findings:
        """The speaking sweep with its evidence; errors as `speaker`'s. A damaged one speaks for nobody."""
        choices = self.of(model)
        neurons: Mapping[str, Evidence] | None = {}
        while (found := speaker(choices, weights_sha256, self._dtype, wanted)) is not None:
            if (neurons := self._neurons(found)) is not None:
                break
            choices.remove(found)
        able = [each for each in by_size(choices) if each.may_speak(weights_sha256)]
        return Findings(
            neurons=neurons or {},
            sweep=found,
            chosen=wanted is not None,
            choices=tuple(able),
            fitting=frozenset(each.id for each in able if each.fits(weights_sha256, self._dtype)),
        )

    def of(self, model: str) -> list[StoredSweep]:
        """Every finished sweep of a model, whatever its weights were."""
        ended = dict(self._ended(model))
        found = [self._stored(sweep_id, created) for sweep_id, created in ended.items()]
        fresh = [stored(sweep_id, self._folder(sweep_id), created) for sweep_id, created in self._bundled(model)]
        return [each for each in (*found, *fresh) if each is not None]

    def forget(self, sweep_id: str) -> None:
        """It was deleted."""
        self._known.pop(sweep_id, None)

    def _stored(self, sweep_id: str, created: float) -> StoredSweep | None:
        if (known := self._known.get(sweep_id)) is None:
            known = stored(sweep_id, self._folder(sweep_id), created, self._named(sweep_id))
            if known is not None:
                self._known[sweep_id] = known
        return known

    def _neurons(self, sweep: StoredSweep) -> Mapping[str, Evidence] | None:
        """None when its files are damaged."""
        found = self._kept(EVIDENCE, sweep, lambda: self._read(sweep))
        if found is None:
            self.forget(sweep.id)
        return found

    def _read(self, sweep: StoredSweep) -> Mapping[str, Evidence] | None:
        try:
            result = read(self._folder(sweep.id))
        except (NotFoundError, InputError, OSError):
            return None
        return None if result is None else evidence_of(result)


def _wide(dtype: str) -> bool:
    """Whether it resolves what a sweep measures to float32's last digits; half precision has other effects."""
    return dtype in ("float32", "float64")
