"""What ships of SmolLM2-135M beside its weights: `python -m training.second_home STEP --weights FOLDER`, in this order.

* text: the documents of its sweep, ours and the two CC0 eval books, of several kinds, to RUN/text.jsonl;
* counts: tokens of the training books, of the inaugural kind of text that `training/README.md` lists, and of that text,
  to unigrams.npy;
* names: the neurons of its sweep, for `nullscope sweep run RUN/sweep --model FOLDER --corpus RUN/text.jsonl --rows 296
  --sample-tokens 256 --shard-rows 8 --neurons NAMES` (an hour of one core), whose result is copied to sweep/;
* atlas: every neuron's weight statistics, which their page shows before the weights are there;
* means: the mean activation of every neuron, the baseline of mean ablation;
* card: the model card of its confidence neurons, and figures.json; `nullscope examples --model smollm2-135m` writes the
worked examples.

What shipped was swept over the text of its day: the parts that are our own code and documents have changed since.

Nothing of the weights themselves is written: they are others'. FOLDER: the converted GGUF file that `nullscope get
smollm2-135m` names.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from training.texts import books

KEY = "smollm2-135m"
HOME = Path("models") / KEY
BLOCK = 2_400
"""Characters of a document cut from a long text: its paragraphs up to about as many."""
SHARES = {"holmes": 72_000, "philosophy": 48_000, "code": 48_000, "reference": 44_000}
"""Characters of each kind beside the demo's sample text, about 66,000 tokens in all."""
CODE = (
    *("analysis/grammar.py", "analysis/metrics.py", "analysis/frequency.py", "analysis/folder.py", "analysis/trace.py"),
    *("analysis/labels.py", "analysis/controls.py", "app/core/residency/queue.py", "app/core/csv.py"),
    *("training/optimiser.py", "training/model.py"),
)
REFERENCE = ("docs/glossary.md", "docs/methods.md", "docs/architecture.md", "docs/hosting.md", "docs/cluster.md")
CANDIDATES = (684, 830, 999, 1022, 1272, 511, 729, 1438, 1165, 471, 645, 7, 20)
"""The five that the weights suggest as entropy neurons, four of large effect beside them (METHODS section 7), both that
they suggest as token-frequency neurons, and one each of the labels prediction and suppression."""
CONTROLS, SEED = 20, 0
ROWS = 296
"""A seeded sample of the rows: some 60,000 tokens."""


def documents(eval_books: Path) -> Iterator[dict[str, str]]:
    """id, kind, licence and text of each document."""
    for line in Path("models/demo/sample.jsonl").read_text(encoding="utf-8").splitlines():
        found = json.loads(line)
        yield {key: found[key] for key in ("id", "kind", "licence", "text")}
    for kind, name in (("fiction", "holmes"), ("argument", "philosophy")):
        (file,) = eval_books.glob(f"*{name}*.txt")
        yield from _blocks(name, kind, "CC0-1.0", file.read_text(encoding="utf-8"), SHARES[name])
    for kind, files in (("code", CODE), ("reference", REFERENCE)):
        text = "\n\n".join(Path(file).read_text(encoding="utf-8") for file in files if Path(file).exists())
        yield from _blocks(kind, kind, "MIT", text, SHARES[kind])


def _blocks(name: str, kind: str, licence: str, text: str, size: int) -> Iterator[dict[str, str]]:
    """Documents of whole paragraphs, spread evenly over the text."""
    blocks, block = [], ""
    for paragraph in text.split("\n\n"):
        block += paragraph + "\n\n"
        if len(block) > BLOCK:
            blocks.append(block.strip("\n"))
            block = ""
    step = max(1.0, sum(map(len, blocks)) / size)
    for index in range(int(len(blocks) / step)):
        yield {"id": f"{name}-{index}", "kind": kind, "licence": licence, "text": blocks[int(index * step)]}


def neurons(d_mlp: int) -> list[int]:
    """CANDIDATES and a seeded draw of as many others as CONTROLS says: what is usual in the layer."""
    others = [index for index in range(d_mlp) if index not in CANDIDATES]
    return sorted({*CANDIDATES, *random.Random(SEED).sample(others, CONTROLS)})


@click.group(help=__doc__)
def main() -> None: ...


@main.command()
@click.option("--eval", "eval_books", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--run", type=click.Path(path_type=Path), default=Path("training/runs/smollm2"))
def text(eval_books: Path, run: Path) -> None:
    """Write the text."""
    run.mkdir(parents=True, exist_ok=True)
    found = list(documents(eval_books))
    lines = [json.dumps(each, ensure_ascii=False) for each in found]
    (run / "text.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    sizes: dict[str, int] = {}
    for each in found:
        sizes[each["kind"]] = sizes.get(each["kind"], 0) + len(each["text"])
    click.echo(f"{len(found)} documents, characters by kind: {sizes}")


@main.command()
@click.option("--weights", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--books", "folder", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--run", type=click.Path(path_type=Path), default=Path("training/runs/smollm2"))
def counts(weights: Path, folder: Path, run: Path) -> None:
    """Count the tokens of the books and of the text."""
    from analysis.counting import count_tokens, vocabulary_of
    from analysis.frequency import save_counts

    ours = [json.loads(line)["text"] for line in (run / "text.jsonl").read_text(encoding="utf-8").splitlines()]

    def every() -> Iterator[str]:
        yield from ours
        for _, book in books(folder):
            yield from (book[start : start + 100_000] for start in range(0, len(book), 100_000))

    found: Any = count_tokens(weights, every(), name=KEY)
    HOME.mkdir(parents=True, exist_ok=True)
    save_counts(found.astype(np.uint32), HOME / "unigrams.npy", vocabulary=vocabulary_of(weights, KEY))
    click.echo(f"{int(found.sum()):,} tokens, {int((found > 0).sum()):,} of {len(found):,} ids seen")


@main.command()
@click.option("--weights", type=click.Path(path_type=Path, exists=True), required=True)
def names(weights: Path) -> None:
    """Print the neurons of the sweep."""
    config = json.loads((weights / "config.json").read_text(encoding="utf-8"))
    layer = config["num_hidden_layers"] - 1
    click.echo(",".join(f"{layer}.{index}" for index in neurons(config["intermediate_size"])))


@main.command()
@click.option("--weights", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--to", type=click.Path(path_type=Path), default=HOME / "atlas.npz")
def atlas(weights: Path, to: Path) -> None:
    """Write the atlas of all layers."""
    from analysis import atlas as atlases
    from analysis import frequency, shipped_atlas
    from analysis.identity import vocabulary_sha256
    from app.core.to_view import versions

    model = _loaded(weights)
    known = vocabulary_sha256(model.tokenizer)
    unigrams = frequency.load_counts(HOME / "unigrams.npy", d_vocab=model.d_vocab, vocabulary=known)
    *_, last = atlases.compute(model, unigrams)
    assert last.result is not None
    shipped_atlas.write(to, model, last.result, unigrams, versions())


@main.command()
@click.option("--weights", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--to", type=click.Path(path_type=Path), default=HOME)
def means(weights: Path, to: Path) -> None:
    """Write the reference means, over the bundled model's sample text, as a server takes them."""
    from analysis.registry import bundled
    from training.companions import save_means

    sample = bundled().sample
    assert sample is not None
    save_means(_loaded(weights), sample, to)


@main.command()
@click.option("--weights", type=click.Path(path_type=Path, exists=True), required=True)
def card(weights: Path) -> None:
    """Measure the confidence neurons again and write the model card."""
    from training import second_home_card

    second_home_card.write(second_home_card.measured(_loaded(weights), HOME), HOME)


def _loaded(weights: Path) -> Any:
    from analysis.folder import dequantized
    from analysis.model import load
    from analysis.registry import PACKAGED

    return load(replace(PACKAGED[KEY], dequantized=dequantized(weights)), folder=weights)


if __name__ == "__main__":
    main()
