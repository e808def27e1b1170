"""Where the reference means of a model come from: beside the model, from the cache, or computed over a text.

Text, in this order: the operator's for this model (`reference`), an administrator's for it (data_dir/reference/<key>/
<name>, as it was sent), the operator's for all (`reference_text`), the model's own sample, the bundled model's sample.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from analysis import reference
from analysis.files import write_bytes
from analysis.model import Model
from analysis.reference import ReferenceMeans
from analysis.registry import bundled
from analysis.types import InputError
from app.core.question import priced
from app.core.residency.cache import EVERYWHERE, Files, Key, Kind
from app.core.residency.resident import Resident
from app.core.settings import Settings

BESIDE_MODEL = "reference_means.safetensors"


MEANS = Kind("means", "analysis.reference", "analysis.sinks", "app.core.residency.means", on_disk=True)


def key_of(settings: Settings, model: Model, text: Path) -> Key:
    """What means depend on beside the model: the text, how it is read, how much of it."""
    inputs = (*inputs_of(model, text), settings.reference_tokens, settings.keep_sinks, model.device.type)
    return Key(model.identity, MEANS, EVERYWHERE, inputs)


def inputs_of(model: Model, text: Path) -> tuple[str, str, bool]:
    """What a text as rows of tokens depends on beside the model: its contents, its format, whether rows get a BOS."""
    return hashlib.sha256(text.read_bytes()).hexdigest(), text.suffix, model.prepends_bos()


def text_file(settings: Settings, model: Model) -> Path | None:
    """The text that means are taken over; None when there is none."""
    return operators_text(settings, model) or model.spec.sample or bundled().sample


def operators_text(settings: Settings, model: Model) -> Path | None:
    """The operator's for this model, else what an administrator has sent for it, else the operator's for all."""
    return named_text(settings, model.key) or sent_text(settings, model.key) or settings.reference_text


def named_text(settings: Settings, key: str) -> Path | None:
    """What the operator names for this model."""
    named = dict(entry.split("=", 1) for entry in settings.reference)
    return Path(named[key]) if key in named else None


SENT = re.compile(r"[^.].{0,95}\.(jsonl|txt)")
"""Names of texts that may be sent."""


def sent_text(settings: Settings, key: str) -> Path | None:
    """What an administrator has sent for this model."""
    files = (settings.data_dir / "reference" / key).glob("*")
    return min((file for file in files if SENT.fullmatch(file.name)), default=None)


def forget_sent(settings: Settings, key: str) -> None:
    """From now on the model's means are again over the text that it had before."""
    shutil.rmtree(settings.data_dir / "reference" / key, ignore_errors=True)


def arriving(settings: Settings, key: str, name: str, content: bytes) -> Path:
    """A text that was sent, where it does not count yet; InputError for a name that is none."""
    name = re.sub(r"[/\\\x00-\x1f]", "_", name)
    if not SENT.fullmatch(name):
        raise InputError(
            f"{name[:80]!r} is no name of a text.", code="bad_text_name", hint="Choose a .txt or .jsonl file."
        )
    folder = settings.data_dir / "reference" / key
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".{name}"
    write_bytes(path, content)
    return path


def arrived(path: Path) -> None:
    """From now on it counts, in place of any other."""
    for file in path.parent.glob("*"):
        if file != path:
            file.unlink(missing_ok=True)
    path.rename(path.with_name(path.name.removeprefix(".")))


def stored(settings: Settings, files: Files, model: Model, folder: Path | None) -> ReferenceMeans | None:
    """Means that need no work. A file that ships, in `folder` or beside what else ships of the model, does not count
    where it is of other weights, or leaves out the sinks that the settings keep."""
    if operators_text(settings, model) is None:
        for home in filter(None, (model.spec.beside, folder)):
            found = reference.load(home / BESIDE_MODEL) if (home / BESIDE_MODEL).is_file() else None
            if found and found.weights_sha256 == model.weights_sha256 and not (found.sinks and settings.keep_sinks):
                return found
    if (text := text_file(settings, model)) is None or not text.is_file():
        return None
    return files.read(key_of(settings, model, text), reference.load)


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


@priced()
def check_text(resident: Resident, text: Path, name: str) -> None:
    """InputError for a text that is none or that the model's tokenizer cannot read."""
    model = resident.model
    try:
        read = rows(resident.settings, model, text)
    except InputError as error:
        raise InputError(error.message.replace(text.name, name), code=error.code, hint=error.hint) from None
    if not read:
        raise InputError(f"{name} is empty.", code="empty_text", hint="Choose another text.")
    share = reference.unknown_share(model, read)
    model.reader.check_read(share, name, hint="Choose a text that its tokenizer can read.")


class NoTextError(Exception):
    """There is no text to compute means over."""


def steps(resident: Resident, settings: Settings, files: Files) -> Iterator[reference.Progress]:
    """Average the activations over the text, a row a step; the last step has the result, which is kept by then."""
    model = resident.model
    if (text := text_file(settings, model)) is None:
        raise NoTextError
    key = key_of(settings, model, text)  # before it is read: a text that changes meanwhile is found under no key
    counted = rows(settings, model, text)
    for step in reference.compute(model, counted, source=text.name, keep_sinks=settings.keep_sinks):
        if step.result is not None:
            files.write(key, partial(reference.save, step.result))
        yield step
