"""A trace as the prompt page reads it: the selected token's candidates, chips, the code that computes a panel again."""

from collections.abc import Mapping

from app.core.chips import Chip, chip
from app.core.code import Server
from app.core.view import RunView, Token, TraceView
from app.prompt.request import PromptState
from app.prompt.view import NextRow, SelectedView

AT_POSITION = ("entropy", "loss", "ln_scale", "kl_unigram", "top1_prob", "rank")


def selected(trace: TraceView, position: int, pinned: TraceView | None = None) -> SelectedView:
    """What each shown run expects after the token at `position`, most probable in the clean run first.

    The token that really follows is always a row, also outside every top k: its probability is exp(-loss).
    """
    following = trace.tokens[position + 1] if position + 1 < len(trace.tokens) else None
    there = pinned if pinned is not None and position < len(pinned.tokens) else None
    runs = {"clean": trace.clean, "intervened": trace.intervened, "pinned": there.clean if there else None}
    if there and there.intervened:
        runs["pinned"] = there.intervened
    found = {name: _probabilities(run, position) for name, run in runs.items() if run is not None}
    texts = {item.id: item.text for run in runs.values() if run is not None for item in run.top[position]}
    if following is not None:
        texts[following.id] = following.text
        _add_next(found, runs, position, following, there)
    order = list(found["clean"])

    def place(index: int) -> tuple[float, float]:
        return -found["clean"].get(index, 0.0), -max(run.get(index, 0.0) for run in found.values())

    ids = sorted(texts, key=place)
    return SelectedView(
        position=position,
        token=trace.tokens[position],
        next_token=following,
        rows=[
            NextRow(
                id=index,
                text=texts[index],
                is_next=following is not None and index == following.id,
                rank=_rank(trace.clean, position, index, order, following),
                **{name: found.get(name, {}).get(index) for name in ("clean", "intervened", "pinned")},
            )
            for index in ids
        ],
        **{name: None if run is None else at_position(run, position) for name, run in runs.items()},
    )


def _probabilities(run: RunView, position: int) -> dict[int, float]:
    return {item.id: item.prob for item in run.top[position]}


def _add_next(
    found: dict[str, dict[int, float]],
    runs: Mapping[str, RunView | None],
    position: int,
    following: Token,
    pinned: TraceView | None,
) -> None:
    """The true next token's probability in each run, where it fell outside the top k."""
    import math

    for name, probabilities in found.items():
        run = runs[name]
        same = name != "pinned" or (
            pinned is not None and position + 1 < len(pinned.tokens) and pinned.tokens[position + 1].id == following.id
        )
        loss = run.loss[position] if run is not None and same else None
        if loss is not None:
            probabilities.setdefault(following.id, math.exp(-loss))


def _rank(run: RunView, position: int, index: int, order: list[int], following: Token | None) -> int | None:
    if following is not None and index == following.id:
        return run.rank[position]
    top = [item.id for item in run.top[position]]
    return top.index(index) if index in top else None


def at_position(run: RunView, position: int) -> dict[str, float | None]:
    """Each metric of a run at one position."""
    series = {name: getattr(run, name) for name in AT_POSITION}
    return {name: None if values is None else values[position] for name, values in series.items()}


def chips(state: PromptState, problems: Mapping[str, str] | None = None) -> list[Chip]:
    """Every intervention that is written, in order. `problems`: of an item, why it is not applied."""
    return [chip(item, (problems or {}).get(item)) for item in state.items]


def code(state: PromptState, server: Server) -> dict[str, str]:
    """Python that computes the run and the neuron table again, through the HTTP API of this server.

    state: what holds (`app.prompt.answer.held`).
    """
    effects = state.effects_request(state.pos)
    return {
        "trace": server.call(state.model, "trace", state.trace_request(), 'answer["clean"]["entropy"]'),
        "effects": server.call(state.model, "effects", effects, 'answer["rows"][0]'),
    }
