"""What a sweep would take, from its first rows and a short timed probe; on the device thread."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np

from analysis import reference
from analysis.corpus import RowRule, cut, encoded, kept_positions
from analysis.effects import next_tokens, stream
from analysis.sweep import SweepConfig
from analysis.sweep.measures import conditions_of
from analysis.trace import trace
from analysis.types import InputError
from app.core.question import priced
from app.core.residency.resident import Resident
from app.sweep import view as views

T = TypeVar("T")
PROBE_ROWS = 200
PROBE_POSITIONS = 8


def rule_of(resident: Resident, config: SweepConfig) -> RowRule:
    model = resident.model
    return RowRule(
        length=config.length or model.n_ctx,
        bos=model.bos_id if model.prepends_bos() else None,
        token_filter=config.token_filter,
        excluded=model.excluded_ids,
        end=model.tokenizer.eos_token_id if config.split_at_end else None,
    )


def probe_rows(resident: Resident, config: SweepConfig, texts: Iterable[str]) -> tuple[list[list[int]], int]:
    """The first rows of a text, and the characters they were cut from; InputError when there is not one."""
    rows: list[list[int]] = []
    characters = 0
    rule = rule_of(resident, config)
    resident.computes()
    for number, text in enumerate(texts, 1):
        rows += cut(encoded(resident.model, text, number), rule)
        characters += len(text)
        if len(rows) >= PROBE_ROWS:
            break
    if not rows:
        raise InputError(
            "Nothing is left of this text after filtering.",
            code="empty_corpus",
            hint="A row needs a few tokens that the token filter keeps.",
        )
    share = reference.unknown_share(resident.model, rows)
    resident.model.reader.check_read(share, "this text", hint="Sweep over a text that it can read.")
    return rows, characters


@priced(10, "run")
def check(resident: Resident, config: SweepConfig, texts: Callable[[], Iterator[str]]) -> None:
    """Refuse what cannot become a sweep, before it is queued."""
    probe_rows(resident, config.settled(resident.model), texts())


@priced(10, "run")
def estimate(
    resident: Resident, config: SweepConfig, texts: Callable[[], Iterator[str]], n_characters: int
) -> views.EstimateView:
    """Size, time and memory of a sweep, from its first rows and a short timed probe; refuses what cannot be carried
    out."""
    config = config.settled(resident.model)
    rows, characters = probe_rows(resident, config, texts())
    n_rows = max(len(rows), round(len(rows) * n_characters / characters)) if len(rows) >= PROBE_ROWS else len(rows)
    n_rows = min(n_rows, config.n_rows or n_rows)
    tokens = round(n_rows * float(np.mean([len(row) for row in rows])))
    kept = [len(kept_positions(row, config.token_filter, resident.model.excluded_ids)) for row in rows]
    n_kept = round(n_rows * float(np.mean(kept)))
    n = len(config.chosen(resident.model))
    seconds = _seconds(resident, config, rows[0], n_rows, n_kept)
    return views.EstimateView(
        rows=n_rows,
        tokens=tokens,
        neurons=n,
        token_neuron_pairs=n_kept * n,
        seconds=seconds,
        at_most=resident.engine.backend.compiling,
        memory_bytes=resident.engine.bytes
        + 8 * n * (2 * config.bootstrap * 14 + 4096 + 60)
        + 4 * n * 7 * config.sample_tokens,
        disk_bytes=8 * n * (15 * n_rows + 60 * max(1, n_rows // config.shard_rows))
        + 4 * n * (4096 + 14 * config.sample_tokens),
    )


def _seconds(resident: Resident, config: SweepConfig, row: list[int], n_rows: int, n_kept: int) -> float:
    """A forward pass and one call of the kernels, timed; neurons of earlier layers take a forward pass each."""
    model = resident.model
    forward, found = _timed(lambda: trace(model, row))
    last = [neuron.index for neuron in config.chosen(model) if neuron.layer == model.last_layer]
    earlier = len(config.chosen(model)) - len(last)
    where = kept_positions(row, config.token_filter, model.excluded_ids)[:PROBE_POSITIONS]

    def effects() -> list[object]:
        return list(
            stream(
                resident.engine,
                found.last,
                next_tokens(row),
                baseline=found.last.activations.mean(0),
                positions=where.tolist(),
                neurons=last,
                conditions=conditions_of(resident.unigram is not None, model.readout.post_norm is not None),
                ranks=True,
            )
        )

    per_token = _timed(effects)[0] / len(where) if last else 0.0
    return n_rows * forward * (2 + 2 * earlier) + n_kept * per_token


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    """Seconds and result of the quicker of two runs: the first may still prepare what later ones find ready."""
    runs = []
    for _ in range(2):
        started = time.perf_counter()
        found = work()
        runs.append(time.perf_counter() - started)
    return min(runs), found
