"""The rows of an induction request: which text, how it is laid out, and whether it fits."""

import torch

from analysis.induction import sequences
from analysis.induction.sequences import Repeated
from analysis.reference import rows_of
from analysis.types import InputError, NotReadyError
from app.present import core as core_shown
from app.requests.induction import RepeatRequest
from app.requests.limits import check_text
from app.residency import means
from app.residency.resident import Resident
from app.views import induction as views


def built(resident: Resident, request: RepeatRequest) -> tuple[Repeated, views.RepeatView]:
    """The rows of a request and how they are laid out; InputError where they cannot be had."""
    model = resident.model
    n_rows = 1 if request.kind == "text" else request.rows
    check_rows(resident, n_rows)
    bos = model.bos_id  # wherever there is one, also for models that are not used to it: the method asks for it
    separator = model.encode(request.separator, prepend_bos=False) if request.separator else []
    longest = sequences.longest_unit(
        min(model.n_ctx, resident.max_tokens), copies=request.copies, separator=len(separator), bos=bos is not None
    )
    length = min(request.length or sequences.PAPER_LENGTH, longest)
    units, source = _units(resident, request, length, longest, n_rows)
    repeat = sequences.repeat(units, copies=request.copies, bos=bos, separator=separator)
    if request.corrupt or request.corrupt_at:
        repeat = sequences.corrupt(
            repeat,
            n_tokens=model.n_tokens,
            excluded=model.excluded_ids,
            seed=request.seed,
            count=request.corrupt,
            offsets=request.corrupt_at or None,
        )
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
        tokens=core_shown.tokens(model, repeat.tokens[0].tolist()),
        changed=repeat.changed[0].nonzero().flatten().tolist(),
        source=source,
    )


def _units(
    resident: Resident, request: RepeatRequest, length: int, longest: int, n_rows: int
) -> tuple[torch.Tensor, str]:
    """One unit a row, and where they come from."""
    model = resident.model
    if request.kind == "random":
        made = sequences.random_units(
            model.n_tokens, excluded=model.excluded_ids, length=length, n_rows=n_rows, seed=request.seed
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
        return torch.tensor([ids]), "your text"
    source, documents = sample_documents(resident)
    return sequences.natural_units(documents, length=length, n_rows=n_rows, seed=request.seed), source


def sample_documents(resident: Resident) -> tuple[str, list[list[int]]]:
    """The text that natural rows are cut from, as ids; encoded once for a replica."""
    path = means.text_file(resident.settings, resident.model)
    if path is None or not path.is_file():
        raise NotReadyError(
            f"There is no sample text for {resident.key}.",
            code="no_sample_text",
            hint="Repeat random ids or your own text, or name a text: NULLSCOPE_REFERENCE_TEXT.",
        )
    texts = means.read_texts(path)
    encode = resident.model.encode
    found = resident.memo("induction documents", lambda: [encode(text, prepend_bos=False) for text in texts])
    return path.name, found


def sample_rows(resident: Resident) -> tuple[str, list[list[int]]]:
    """The same text as rows of the model's usual length."""
    path, _ = sample_documents(resident)
    file = means.text_file(resident.settings, resident.model)
    assert file is not None
    texts = means.read_texts(file)
    return path, resident.memo("induction rows", lambda: rows_of(resident.model, texts))


def own_rows(resident: Resident, text: str) -> tuple[str, list[list[int]]]:
    """One's own text in the same way."""
    check_text(text, resident.limits)
    return "your text", rows_of(resident.model, [text])


def check_rows(resident: Resident, n_rows: int) -> None:
    limit = resident.limits.max_rows
    if n_rows > limit:
        raise InputError(
            f"The request has {n_rows} rows; at most {limit} are allowed here.",
            code="limit_rows",
            hint="Ask for fewer rows.",
        )


def state_bytes(resident: Resident, repeat: Repeated) -> int:
    """What the rows' last-layer state and its changed copies take."""
    model = resident.model
    return repeat.tokens.numel() * (model.d_mlp + 4 * model.d_model) * 8


def shorter(length: int, wanted: int, resident: Resident) -> str | None:
    if length >= wanted:
        return None
    context = min(resident.model.n_ctx, resident.max_tokens)
    return f"{wanted} tokens a copy were asked for; the context of {context} tokens allows {length}."
