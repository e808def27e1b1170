"""The rows of an induction request: which text, how it is laid out, and whether it fits."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from analysis import sinks
from analysis.induction import sequences
from analysis.induction.heads import score_rows
from analysis.induction.sequences import Repeated
from analysis.reference import rows_of
from analysis.types import InputError, NotReadyError
from app.core import to_view as core_to_view
from app.core.errors import ConflictError
from app.core.limits import check_rows, check_text
from app.core.question import priced
from app.core.residency import means
from app.core.residency.cache import Kind
from app.core.residency.resident import Resident
from app.induction import view as views
from app.induction.request import HeadsRequest, RepeatRequest

DOCUMENTS = Kind("documents", "analysis.model", "app.core.residency.means")
ROWS = Kind("rows", "analysis.reference", "app.core.residency.means")


def built(resident: Resident, request: RepeatRequest) -> tuple[Repeated, views.RepeatView]:
    """The rows of a request and how they are laid out; InputError where they cannot be had."""
    model = resident.model
    n_rows = request.n_rows
    check_rows(n_rows, resident.limits)
    bos = model.bos_id  # wherever there is one, also for models that are not used to it: the method asks for it
    separator = model.encode_within(request.separator) if request.separator else []
    longest = sequences.longest_unit(
        min(model.n_ctx, resident.max_tokens), copies=request.copies, separator=len(separator), bos=bos is not None
    )
    length = min(request.length or sequences.PAPER_LENGTH, longest)
    units, source = _units(resident, request, length, longest, n_rows)
    repeat = sequences.repeat(units, copies=request.copies, bos=bos, separator=separator)
    if request.corrupt or request.corrupt_at:
        repeat = sequences.corrupt(
            repeat,
            known=model.known,
            excluded=model.excluded_ids,
            seed=request.seed,
            count=request.corrupt,
            offsets=request.corrupt_at or None,
        )
    skip = sinks.sinks_in(model, repeat.tokens.shape[1], keep=resident.settings.keep_sinks)
    repeat = replace(repeat, sinks=skip)
    resident.admit(repeat.tokens.shape[1], extra=state_bytes(resident, repeat))
    note = None
    if request.kind != "text":
        note = shorter(repeat.length, request.length or sequences.PAPER_LENGTH, resident)
        if len(repeat.tokens) < n_rows:
            note = f"{note or ''} {source} gives {len(repeat.tokens)} rows of this length, not {n_rows}.".strip()
    return repeat, views.RepeatView(
        kind=request.kind,
        seed=request.seed,
        rows=len(repeat.tokens),
        length=repeat.length,
        copies=repeat.copies,
        separator=repeat.separator,
        starts=repeat.starts,
        n_positions=repeat.tokens.shape[1],
        note=note,
        tokens=core_to_view.tokens(model, repeat.tokens[0].tolist()),
        changed=repeat.changed[0].nonzero().flatten().tolist(),
        source=source,
    )


def _units(
    resident: Resident, request: RepeatRequest, length: int, longest: int, n_rows: int
) -> tuple[sequences.Units, str]:
    """One unit a row, and where they come from."""
    model = resident.model
    if request.kind == "random":
        made = sequences.random_units(
            model.known, excluded=model.excluded_ids, length=length, n_rows=n_rows, seed=request.seed
        )
        return made, "random token ids"
    if request.kind == "text":
        assert request.text is not None
        check_text(request.text, resident.limits)
        ids = model.encode(request.text, prepend_bos=False)
        if request.length is not None:
            ids = ids[: request.length]
        if len(ids) > longest:
            raise InputError(
                f"The text has {len(ids)} tokens; {request.copies} copies of it do not fit, {longest} tokens would.",
                code="repeat_too_long",
                hint=f"Shorten it, or set the length of a copy to {longest}.",
            )
        return sequences.one_unit(ids), "your text"
    text, documents = sample_documents(resident)
    return sequences.natural_units(documents, length=length, n_rows=n_rows, seed=request.seed), text.name


def sample_documents(resident: Resident) -> tuple[Path, list[list[int]]]:
    """The text that natural rows are cut from, and its documents as ids."""
    path, model = _sample_text(resident), resident.model

    def encoded() -> list[list[int]]:
        return [model.encode(text, prepend_bos=False) for text in means.read_texts(path)]

    return path, resident.cached(DOCUMENTS, means.inputs_of(model, path), encoded)


def sample_rows(resident: Resident) -> tuple[Path, list[list[int]]]:
    """The same text as rows of the model's usual length."""
    path, model = _sample_text(resident), resident.model
    return path, resident.cached(ROWS, means.inputs_of(model, path), lambda: rows_of(model, means.read_texts(path)))


def _sample_text(resident: Resident) -> Path:
    path = means.text_file(resident.settings, resident.model)
    if path is None or not path.is_file():
        raise NotReadyError(
            f"There is no sample text for {resident.key}.",
            code="no_sample_text",
            hint="Repeat random ids or your own text, or name a text: NULLSCOPE_REFERENCE_TEXT.",
        )
    return path


def own_rows(resident: Resident, text: str) -> tuple[str, list[list[int]]]:
    """One's own text in the same way."""
    check_text(text, resident.limits)
    return "your text", rows_of(resident.model, [text])


def state_bytes(resident: Resident, repeat: Repeated) -> int:
    """What the rows' last-layer state and its changed copies take."""
    model = resident.model
    return repeat.tokens.numel() * (model.d_mlp + 4 * model.d_model) * 8


def shorter(length: int, wanted: int, resident: Resident) -> str | None:
    if length >= wanted:
        return None
    context = min(resident.model.n_ctx, resident.max_tokens)
    return f"{wanted} tokens a copy were asked for; the context of {context} tokens allows {length}."


@priced()
def every_row(resident: Resident, request: RepeatRequest | HeadsRequest, first: Sequence[int]) -> list[list[int]]:
    """Token ids of every row of a request over repeated text; `first`: those of its first row, as they were stored.

    ConflictError where the sample text or the tokenizer is no longer the one that the result was made with.
    """
    if isinstance(request, HeadsRequest):
        repeat = score_rows(resident.model, n_rows=request.rows, seed=request.seed, length=request.length)
    else:
        repeat, _ = built(resident, request)
    found: list[list[int]] = repeat.tokens.tolist()
    if found[0] != list(first):
        raise ConflictError(
            "The rows of this result cannot be had back: the model's sample text is another one now.",
            code="other_text",
            hint="Its JSON has the numbers; run it again for a notebook.",
        )
    return found
