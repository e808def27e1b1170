"""Where the reference means of a model come from: beside the model, from the cache, or computed over a text.

Text, in this order: the operator's `reference_text`, the model's own sample, the bundled model's sample.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from analysis import reference
from analysis.model import Model
from analysis.reference import ReferenceMeans
from analysis.registry import bundled
from analysis.types import InputError
from app.residency.resident import Resident
from app.settings import Settings

BESIDE_MODEL = "reference_means.safetensors"


def cache_file(data_dir: Path, model: Model, digest: str) -> Path:
    """Keyed by the weights, their dtype and the text."""
    dtype = str(model.dtype).removeprefix("torch.")
    return data_dir / "means" / f"{model.weights_sha256[:32]}-{dtype}-{digest[:16]}.safetensors"


def text_file(settings: Settings, model: Model) -> Path | None:
    """The text that means are taken over; None when there is none."""
    if settings.reference_text is not None:
        return settings.reference_text
    return model.spec.sample or bundled().sample


def stored(settings: Settings, model: Model, folder: Path | None) -> ReferenceMeans | None:
    """Means that need no work. A file for other weights does not count."""
    beside = folder / BESIDE_MODEL if folder and settings.reference_text is None else None
    files = [beside] if beside else []
    if (text := text_file(settings, model)) is not None and text.is_file():
        files.append(cache_file(settings.data_dir, model, digest(settings, text)))
    for file in files:
        if file.is_file():
            found = reference.load(file)
            if found.weights_sha256 == model.weights_sha256:
                return found
    return None


def digest(settings: Settings, text: Path) -> str:
    return hashlib.sha256(text.read_bytes() + str(settings.reference_tokens).encode()).hexdigest()


def read_texts(path: Path) -> list[str]:
    """Documents of a text: one a line in .jsonl (key `text`), paragraphs between blank lines otherwise."""
    try:
        content = path.read_text(encoding="utf-8")
        if path.suffix == ".jsonl":
            return [str(json.loads(line)["text"]) for line in content.splitlines() if line.strip()]
        return [part for part in content.split("\n\n\n") if part.strip()] or [content]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path.name} cannot be read as a text: {error}", code="bad_reference_text") from error


def rows(settings: Settings, model: Model, text: Path) -> Sequence[Sequence[int]]:
    """Rows of tokens, up to the number of tokens that the settings name."""
    kept: list[list[int]] = []
    n_tokens = 0
    for document in read_texts(text):
        for row in reference.rows_of(model, [document]):
            if n_tokens >= settings.reference_tokens:
                return kept
            kept.append(row)
            n_tokens += len(row)
    return kept


class NoTextError(Exception):
    """There is no text to compute means over."""


def steps(resident: Resident, settings: Settings) -> Iterator[reference.Progress]:
    """Average the activations over the text, a row a step; the last step has the result, which is kept by then."""
    model = resident.model
    if (text := text_file(settings, model)) is None:
        raise NoTextError
    for step in reference.compute(model, rows(settings, model, text), source=text.name):
        if step.result is not None:
            keep(settings, model, text, step.result)
        yield step


def keep(settings: Settings, model: Model, text: Path, found: ReferenceMeans) -> None:
    """For the next start."""
    file = cache_file(settings.data_dir, model, digest(settings, text))
    file.parent.mkdir(parents=True, exist_ok=True)
    reference.save(found, file)
