"""nullscope count: token counts of a text, in the form that the program reads."""

from pathlib import Path
from typing import Any

import click

from app.core.shell.session import Refused, refusing


@click.command("count")
@click.argument("text", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", default="demo", show_default=True, help="Key or folder whose tokenizer counts.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="The .npy file; the data folder by default."
)
def command(text: Path, model: str, out: Path | None) -> None:
    """Count the tokens of TEXT (.txt, or .jsonl with a `text` key) for the frequency measures.

    Without --out the counts go where `nullscope serve` looks for them: unigrams/<key>.npy in the data folder.
    """
    with refusing():
        from analysis.frequency import save_counts

        counts, vocabulary, target = counted(text, model, out)
        save_counts(counts, target, vocabulary=vocabulary)
    click.echo(
        f"{int(counts.sum())} tokens of {text.name}, {int((counts > 0).sum())} of {len(counts)} ids seen: {target}"
    )


def counted(text: Path, model: str, out: Path | None) -> tuple[Any, str, Path]:
    """(counts of every id of the tokenizer, the hash of its vocabulary, the file they go to)."""
    from analysis.counting import count_tokens, vocabulary_of
    from analysis.registry import resolve
    from app.core.residency.hub import HubModels
    from app.core.residency.means import read_texts
    from app.core.settings import Settings

    settings, spec = Settings(), resolve(model)
    folder = spec.folder
    if folder is None:
        snapshot = HubModels(settings.data_dir).local(spec)
        if snapshot is None:
            raise Refused(f"{spec.key} is not on this machine; nullscope get {spec.key}.")
        folder = snapshot.folder
    counts = count_tokens(folder, read_texts(text), name=spec.key, source=text.name)
    return counts, vocabulary_of(folder, spec.key), out or settings.data_dir / "unigrams" / f"{spec.key}.npy"
