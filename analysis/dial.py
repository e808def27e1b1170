"""A confidence dial: what is written with some neurons turned, beside the twins that would explain it away.

From one prompt and the seeds s, s + 1, ... a model writes undisturbed, with each dial, and with the dial's two twins.
Everything that is matched is matched on the undisturbed texts, teacher-forced, at the positions t that predict what was
written there; z are the undisturbed logits, H the entropy with nothing turned, H' with the dial.

    its temperature      one number a dial: the T with  mean_t H(softmax(z_t / T)) = mean_t H'_t.  Undisturbed, drawn at
                         T times the sampling temperature
    its random neurons   a draw a text: as many last-layer neurons as the dial turns, none of them, scaled by the f
                         closest to 1 with  mean_t |H(f)_t - H_t| = mean_t |H'_t - H_t|,  on the dial's side of 1 and
                         at most `FURTHEST` from it; where none is enough, twice as many, and again, up to `MOST` times
                         as many. How many they are is told, and what is reached where that is less

A dial that does something of its own differs from both. `analysis.controls` compares ablations with random directions
of the same norm; a text is compared at the same change of entropy, since that is what a reader would ascribe it to.

Of each text: mean entropy of the distributions it was drawn from before sampling (of the twin by temperature: z / T);
loss under the undisturbed model; repetition, 1 - distinct 4-grams / 4-grams (Welleck et al. 2020, arXiv 1908.04319);
distinct tokens / tokens (Li et al. 2016, arXiv 1510.03055); length; tokens before it parts from the undisturbed text of
the same seed. Their means have 95 % percentile bootstrap intervals over the texts, and so have the differences from the
undisturbed text of the same seed.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Generator, Sequence
from dataclasses import astuple, dataclass, fields, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from analysis import metrics
from analysis.crossing import Crossing
from analysis.generate import Sampling, Step, ends, generate
from analysis.metrics import wide
from analysis.model import Model
from analysis.progress import Progress
from analysis.trace import Trace, intervene, trace
from analysis.types import InputError, Intervention, NeuronId

Kind = Literal["undisturbed", "dial", "temperature", "neurons"]

GRAM = 4
"""Tokens of the pieces of which repetition counts the distinct ones."""

COLDEST, HOTTEST = 1e-2, 1e2
"""Between these a temperature is looked for."""

FURTHEST = 64.0
"""How far from 1 a factor of random neurons is looked for."""

MOST = 16
"""So many times the dial's neurons are drawn at the most."""

FEWEST = 10
"""Texts with which a mean has an interval."""

REPLICATES = 2000


@dataclass(frozen=True, slots=True)
class Numbers:
    """Of one text; `shared`: tokens before it parts from the undisturbed one. Entropy and loss in nats."""

    entropy: float
    loss: float
    repetition: float
    distinct: float
    length: float
    shared: float


NAMES = tuple(field.name for field in fields(Numbers))


@dataclass(frozen=True, slots=True)
class Text:
    """What was written from one seed. ended: by the model's end of text. entropy: of each prediction. neurons, factor:
    of its draw of random neurons."""

    seed: int
    token_ids: tuple[int, ...]
    ended: bool
    entropy: tuple[float, ...]
    numbers: Numbers
    neurons: tuple[NeuronId, ...] = ()
    factor: float | None = None


@dataclass(frozen=True, slots=True)
class Mean:
    """Over texts, and of the difference from the undisturbed one; the ends are NaN with fewer than `FEWEST`."""

    mean: float
    low: float
    high: float
    difference: float
    difference_low: float
    difference_high: float


@dataclass(frozen=True, slots=True)
class Arm:
    """The texts written in one way. dial: which of the dials it is, or is a twin of; None undisturbed.

    temperature: of the twin. matched: what a twin was to reach (nats: mean entropy, or mean |dH|) and what it reached.
    """

    kind: Kind
    texts: tuple[Text, ...]
    dial: int | None = None
    temperature: float | None = None
    matched: tuple[float, float] | None = None

    def means(self, undisturbed: Arm) -> dict[str, Mean]:
        """By the names of `Numbers`."""
        own, other = (np.array([astuple(text.numbers) for text in arm.texts]) for arm in (self, undisturbed))
        columns = (mean_over_texts(own[:, i], own[:, i] - other[:, i]) for i in range(len(NAMES)))
        return dict(zip(NAMES, columns, strict=True))


@dataclass(frozen=True, slots=True)
class Setting:
    """What all arms share. seeds: one text each."""

    prompt: tuple[int, ...]
    max_new_tokens: int
    sampling: Sampling
    seeds: int = 1
    stop_at_eos: bool = True

    def __post_init__(self) -> None:
        if self.seeds > 1 and self.sampling.temperature == 0:
            raise InputError(
                "At temperature 0 every seed writes the same text.",
                code="one_text",
                hint="Ask for one seed, or for a temperature above 0.",
            )


Turned = Sequence[Intervention]
Steps = Generator[Progress | Arm, None, None]


def turn(
    model: Model, setting: Setting, dials: Sequence[Turned], *, twins: bool = True, spared: Collection[NeuronId] = ()
) -> Steps:
    """The undisturbed arm, then each dial and its two twins; progress after every token: then others have their turn.

    spared: neurons that no draw of random ones takes. InputError without room for a token, or for dials that cannot be.
    """
    n_arms = 1 + len(dials) * (3 if twins else 1)
    writer = _Writer(model, setting, n_arms)
    baseline = yield from writer.arm("undisturbed")
    yield baseline
    writer.undisturbed = baseline
    ground = list[_Ground]()
    for number, dial in enumerate(dials):
        yield (yield from writer.arm("dial", number, [dial] * setting.seeds))
        if not twins:
            continue
        if not ground:
            for text in baseline.texts:
                ground.append(_Ground.of(model, setting.prompt, text))
                yield writer.progress
        changed = list[Float[Tensor, " n"]]()
        for one in ground:
            changed.append(one.entropy_of(intervene(model, one.clean, dial)))
            yield writer.progress
        yield (yield from _by_temperature(writer, ground, changed, number))
        yield (yield from _by_neurons(writer, ground, changed, number, dial, spared))


class _Writer:
    """Texts of one setting."""

    def __init__(self, model: Model, setting: Setting, n_arms: int) -> None:
        self.model, self.setting = model, setting
        self.undisturbed: Arm | None = None
        self._room = min(setting.max_new_tokens, model.n_ctx - len(setting.prompt))
        if self._room < 1:
            raise InputError("There is no room for a token.", code="too_many_tokens", hint="Shorten the text.")
        self._ends = ends(model) if setting.stop_at_eos else frozenset[int]()
        self.progress = Progress("writing", 0, n_arms * setting.seeds * self._room)

    def arm(
        self, kind: Kind, dial: int | None = None, turned: Sequence[Turned] = (), *, temperature: float = 1.0
    ) -> Generator[Progress, None, Arm]:
        """A text a seed. turned: its interventions; temperature: of the distributions before sampling."""
        texts = list[Text]()
        for number in range(self.setting.seeds):
            begun = self.progress.done
            steps = list[Step]()
            for step in generate(
                self.model,
                self.setting.prompt,
                max_new_tokens=self._room,
                sampling=self._sampling(number, temperature),
                interventions=turned[number] if turned else (),
                top=1,
            ):
                steps.append(step)
                self.progress = replace(self.progress, done=begun + len(steps))
                yield self.progress
                if step.token_id in self._ends:
                    break
            self.progress = replace(self.progress, done=begun + self._room)
            texts.append(self._text(number, steps, temperature))
            yield self.progress
        return Arm(kind, tuple(texts), dial)

    def _sampling(self, number: int, temperature: float) -> Sampling:
        chosen = self.setting.sampling
        return replace(chosen, seed=chosen.seed + number, temperature=chosen.temperature * temperature)

    @torch.inference_mode()
    def _text(self, number: int, steps: Sequence[Step], temperature: float) -> Text:
        ids = tuple(step.token_id for step in steps)
        first, room = len(self.setting.prompt) - 1, len(ids)
        plain = trace(self.model, [*self.setting.prompt, *ids])
        entropy = [step.entropy for step in steps]
        if temperature != 1:
            entropy = _entropy(self.model, plain.last.resid[first : first + room], temperature).tolist()
        other = self.undisturbed.texts[number].token_ids if self.undisturbed else ids
        return Text(
            seed=self.setting.sampling.seed + number,
            token_ids=ids,
            ended=ids[-1] in self._ends,
            entropy=tuple(entropy),
            numbers=Numbers(
                entropy=math.fsum(entropy) / room,
                loss=float(plain.metrics.loss[first : first + room].double().mean()),
                repetition=repetition(ids),
                distinct=len(set(ids)) / room,
                length=float(room),
                shared=float(shared(ids, other)),
            ),
        )


def repetition(ids: Sequence[int]) -> float:
    """1 - distinct n-grams / n-grams, n = `GRAM`; 0 for a text without one."""
    grams = [tuple(ids[i : i + GRAM]) for i in range(len(ids) - GRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def shared(ids: Sequence[int], other: Sequence[int]) -> int:
    """Tokens before two texts part."""
    pairs = enumerate(zip(ids, other, strict=False))
    return next((i for i, (one, another) in pairs if one != another), min(len(ids), len(other)))


@dataclass(frozen=True, slots=True)
class _Ground:
    """An undisturbed text that twins are matched on: its clean run, and the positions that predict what was written."""

    model: Model
    clean: Trace
    at: slice

    @classmethod
    def of(cls, model: Model, prompt: Sequence[int], text: Text) -> _Ground:
        first = len(prompt) - 1
        return cls(model, trace(model, [*prompt, *text.token_ids]), slice(first, first + len(text.token_ids)))

    @property
    def entropy(self) -> Float[Tensor, " n"]:
        return self.entropy_of(self.clean)

    def entropy_of(self, run: Trace) -> Float[Tensor, " n"]:
        return run.metrics.entropy[self.at].double()

    @torch.inference_mode()
    def at_temperature(self, temperature: float) -> float:
        """The sum of the entropies."""
        return float(_entropy(self.model, self.clean.last.resid[self.at], temperature).sum())

    @torch.inference_mode()
    def scaled(self, neurons: Sequence[int], factor: float) -> float:
        """Mean |dH| with some last-layer neurons scaled."""
        readout, last = self.model.readout, self.clean.last
        delta = (factor - 1) * last.activations[self.at][:, list(neurons)]
        mlp_out = None if last.mlp_out is None else last.mlp_out[self.at]
        resid = readout.write(last.resid[self.at], mlp_out, delta, readout.W_out[list(neurons)])
        return float((_entropy(self.model, resid, 1.0) - self.entropy).abs().mean())


def _entropy(model: Model, resid: Float[Tensor, "pos d_model"], temperature: float) -> Float[Tensor, " pos"]:
    chunk = metrics.positions_per_chunk(model.d_vocab)
    parts = (model.readout.logits(part) / temperature for part in torch.split(resid, chunk))
    return torch.cat([metrics.entropy(wide(logits).log_softmax(-1)) for logits in parts]).double()


def _by_temperature(
    writer: _Writer, ground: Sequence[_Ground], changed: Sequence[Float[Tensor, " n"]], number: int
) -> Generator[Progress, None, Arm]:
    n = sum(map(len, changed))
    target = math.fsum(float(part.sum()) for part in changed) / n
    left = math.fsum(float(one.entropy.sum()) for one in ground) / n - target  # at 1
    warmer = left < 0
    search = Crossing(0.0, math.log(HOTTEST)) if warmer else Crossing(math.log(COLDEST), 0.0)
    search.done = abs(left) < Crossing.TOLERANCE
    while not search.done:
        total = 0.0
        for one in ground:
            total += one.at_temperature(math.exp(search.at))
            yield writer.progress
        left = total / n - target
        search.take(left)
    temperature = math.exp(search.at) if search.looked else 1.0
    arm = yield from writer.arm("temperature", number, temperature=temperature)
    return replace(arm, temperature=temperature, matched=(target, target + left))


def _by_neurons(
    writer: _Writer,
    ground: Sequence[_Ground],
    changed: Sequence[Float[Tensor, " n"]],
    number: int,
    dial: Turned,
    spared: Collection[NeuronId],
) -> Generator[Progress, None, Arm]:
    model, seed = writer.model, writer.setting.sampling.seed
    taken = {item.neuron for item in dial} | set(spared)
    free = [i for i in range(model.d_mlp) if NeuronId(model.last_layer, i) not in taken]
    if len(free) < len(dial):
        raise InputError("There are too few other neurons to compare with.", hint="Turn fewer.")
    side = -1.0 if dial[0].mode == "scale" and float(dial[0].value or 0.0) < 1 else 1.0
    drawn, wanted, reached = list[tuple[list[int], float]](), list[float](), list[float]()
    for place, (one, after) in enumerate(zip(ground, changed, strict=True)):
        draw = np.random.default_rng([seed + place, number]).permutation(len(free))
        target = float((after - one.entropy).abs().mean())
        neurons, away, n = list[int](), FURTHEST, len(dial)
        while away >= FURTHEST and n <= min(len(free), MOST * len(dial)):
            neurons = sorted(free[i] for i in draw[:n])
            away = (yield from _distance(writer, one, neurons, side, target)) if target > 0 else 0.0
            n *= 2
        factor = 1 + side * away
        drawn.append((neurons, factor))
        wanted.append(target)
        reached.append(one.scaled(neurons, factor))
    turned = [
        [Intervention(NeuronId(model.last_layer, i), "scale", factor) for i in neurons] for neurons, factor in drawn
    ]
    arm = yield from writer.arm("neurons", number, turned)
    texts = (
        replace(text, neurons=tuple(NeuronId(model.last_layer, i) for i in neurons), factor=factor)
        for text, (neurons, factor) in zip(arm.texts, drawn, strict=True)
    )
    return replace(arm, texts=tuple(texts), matched=(float(np.mean(wanted)), float(np.mean(reached))))


def _distance(
    writer: _Writer, one: _Ground, neurons: Sequence[int], side: float, target: float
) -> Generator[Progress, None, float]:
    """How far from 1 the factor is. The first doubling that reaches the target, then between it and the one before."""
    low, high = 0.0, 0.125
    while one.scaled(neurons, 1 + side * high) < target:
        yield writer.progress
        if high >= FURTHEST:
            return FURTHEST
        low, high = high, 2 * high
    search = Crossing(low, high)
    while not search.done:
        search.take(one.scaled(neurons, 1 + side * search.at) - target)
        yield writer.progress
    return search.at


def mean_over_texts(values: np.ndarray, differences: np.ndarray) -> Mean:
    """Means of both over texts, each with its percentile bootstrap interval (the same resampled texts for both)."""
    n = len(values)
    nothing = (math.nan, math.nan)
    ends = [nothing, nothing]
    if n >= FEWEST:
        again = np.random.default_rng(0).integers(0, n, (REPLICATES, n))
        found = (np.quantile(part[again].mean(1), (0.025, 0.975)) for part in (values, differences))
        ends = [(float(low), float(high)) for low, high in found]
    return Mean(float(values.mean()), *ends[0], float(differences.mean()), *ends[1])
