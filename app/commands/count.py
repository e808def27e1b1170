"""nullscope count: token counts of a text, in the form that the program reads."""

from pathlib import Path
from typing import Any

import click

from app.commands.door import Refused, refusing


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
        counts, target = counted(text, model, out)
    import os

    import numpy as np

    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{target.name}.tmp")
    with temporary.open("wb") as file:
        np.save(file, counts)
    os.replace(temporary, target)
    click.echo(
        f"{int(counts.sum())} tokens of {text.name}, {int((counts > 0).sum())} of {len(counts)} ids seen: {target}"
    )


def counted(text: Path, model: str, out: Path | None) -> tuple[Any, Path]:
    """(counts of every id of the tokenizer, the file they go to)."""
    from analysis.model import count_tokens
    from analysis.registry import resolve
    from app.residency.hub import HubModels
    from app.residency.means import read_texts
    from app.settings import Settings

    settings, spec = Settings(), resolve(model)
    folder = spec.folder
    if folder is None:
        snapshot = HubModels(settings.data_dir).local(spec)
        if snapshot is None:
            raise Refused(f"{spec.key} is not on this machine; serve it once to download it.")
        folder = snapshot.folder
    counts = count_tokens(folder, read_texts(text))
    return counts, out or settings.data_dir / "unigrams" / f"{spec.key}.npy"
