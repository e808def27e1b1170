"""The training books: read once, tokenised once, kept as a flat file of 16-bit ids with their counts.

`python -m training.texts --text DIR --run RUN` writes tokenizer.json, tokens.u16, unigrams.npy and titles.txt into RUN.
"""

import gzip
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np

from training.recipe import Recipe
from training.tokenizer import train_tokenizer

HELD_OUT = 200_000  # tokens at the end of the stream, never trained on: the loss that the log shows
TOKENIZER_SHARE = 8  # the tokenizer learns from every eighth book: eight times as quick


def books(folder: Path) -> Iterator[tuple[str, str]]:
    """Title and text of every book in the gzipped JSON lines of `folder`, in order of file name."""
    paths = sorted(folder.glob("*.jsonl.gz"))
    if not paths:
        raise click.UsageError(f"{folder} holds no *.jsonl.gz: gather the books that training/README.md lists")
    for path in paths:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                book = json.loads(line)
                yield book["title"], book["text"]


def write_whole(path: Path, content: bytes) -> None:
    """Write to a temporary name, then rename: a file under its own name is always complete."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)


@click.command()
@click.option(
    "--text", "folder", type=click.Path(path_type=Path, exists=True), default=Path("../shared/data/text/train")
)
@click.option("--run", type=click.Path(path_type=Path), default=Path("training/runs/demo"))
def main(folder: Path, run: Path) -> None:
    """Tokenizer, token stream, counts and titles; skipped where they exist."""
    run.mkdir(parents=True, exist_ok=True)
    if (run / "unigrams.npy").exists():
        return
    shape = Recipe().shape
    tokenizer = train_tokenizer(
        (text for i, (_, text) in enumerate(books(folder)) if i % TOKENIZER_SHARE == 0), shape.d_vocab
    )
    write_whole(run / "tokenizer.json", tokenizer.to_str(pretty=True).encode())
    titles, parts = [], []
    for title, text in books(folder):
        ids = [0, *tokenizer.encode(text).ids]
        titles.append(title)
        parts.append(np.asarray(ids, dtype=np.uint16))
    stream = np.concatenate(parts)
    write_whole(run / "tokens.u16", stream.tobytes())
    write_whole(run / "titles.txt", "\n".join(titles).encode())
    counts = io.BytesIO()
    np.save(counts, np.bincount(stream[:-HELD_OUT], minlength=shape.d_vocab).astype(np.int64))
    write_whole(run / "unigrams.npy", counts.getvalue())  # last: its presence says that all is there
    click.echo(
        f"{len(titles)} books, {len(stream):,} tokens, {len(np.unique(stream)):,} of {shape.d_vocab:,} entries used"
    )


if __name__ == "__main__":
    main()
