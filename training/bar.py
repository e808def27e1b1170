"""The bundled model's bar, line by line, with pass or miss: `python -m training.bar --model models/demo --text DIR`.

Three corruption seeds on the model's sample.jsonl, and one on the two eval books where DIR holds them. `--card FILE`
writes what the model card states as JSON; a test recomputes it.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import torch

from analysis import frequency, registry
from analysis import model as models
from analysis.frequency import Unigram
from analysis.induction.differences import differences
from analysis.induction.heads import head_scores, score_rows
from analysis.induction.measure import measure as measure_rows
from analysis.induction.sequences import natural_units, repeat
from analysis.induction.steps import complete
from analysis.model import Model
from training.companions import sample_texts
from training.evaluate import BOOKS, HeldOut, held_out
from training.evidence import Evidence, measure

SEEDS = (0, 1, 2)
EVAL_ROWS = 60


@dataclass(frozen=True)
class Line:
    """One line of the bar: what is asked, what was found, and whether it is enough (None: reported as found)."""

    claim: str
    found: str
    passed: bool | None

    def __str__(self) -> str:
        word = {True: "pass", False: "MISS", None: "    "}[self.passed]
        return f"{word}  {self.claim}: {self.found}"


def entropy_neurons(e: Evidence) -> list[int]:
    """Neurons that fulfil every condition on an entropy neuron, strongest LN-mediated fraction first."""
    holds = (e.rho >= 0.85) & (e.logit_var <= 0.4 * e.logit_var.median()) & (e.norm >= 1.3 * e.norm.median())
    holds &= (e.ln_fraction >= 0.3) & (e.share_above(e.d_entropy) < 0.05)
    return sorted(holds.nonzero()[:, 0].tolist(), key=lambda i: -float(e.ln_fraction[i]))


def frequency_neurons(e: Evidence) -> list[int]:
    """Token-frequency neurons, largest mean |dKL| first."""
    holds = (e.frequency_fraction >= 0.4) & (e.share_above(e.d_kl) < 0.05)
    return sorted(holds.nonzero()[:, 0].tolist(), key=lambda i: -float(e.d_kl[i]))


def strongest_ln(e: Evidence) -> float:
    """Largest LN-mediated fraction of an entropy neuron; NaN where there is none."""
    return max((float(e.ln_fraction[i]) for i in entropy_neurons(e)), default=float("nan"))


def best_correlation(e: Evidence) -> float:
    """Largest |r| of an entropy neuron's activation with the corruption rate; NaN where there is none."""
    return max((float(e.correlation[i].abs()) for i in entropy_neurons(e)), default=float("nan"))


def describe(e: Evidence, i: int) -> str:
    """The figures of one neuron; norm and LogitVar as multiples of the layer's median."""
    return (
        f"{i} (norm {e.norm[i] / e.norm.median():.2f} x, LogitVar {e.logit_var[i] / e.logit_var.median():.2f} x, "
        f"rho {e.rho[i]:.3f}, LN {e.ln_fraction[i]:.2f}, frequency {e.frequency_fraction[i]:.2f}, "
        f"|dH| {e.d_entropy[i]:.4f}, |dKL| {e.d_kl[i]:.4f}, corruption {e.correlation[i]:+.2f})"
    )


def last_layer_lines(e: Evidence) -> Iterator[Line]:
    """The lines on entropy and token-frequency neurons."""
    entropy, frequent = entropy_neurons(e), frequency_neurons(e)
    yield Line("at least 3 entropy neurons", "; ".join(describe(e, i) for i in entropy) or "none", len(entropy) >= 3)
    others = near_misses(e)
    yield Line("... and neurons that miss only the norm", "; ".join(describe(e, i) for i in others) or "none", None)
    strongest = strongest_ln(e)
    yield Line("strongest LN-mediated fraction >= 0.5", f"{strongest:.2f}", strongest >= 0.5)
    best = best_correlation(e)
    over_all = max((float(e.correlation_over_all[i].abs()) for i in entropy), default=float("nan"))
    yield Line(
        "an entropy neuron follows the corruption rate, |r| >= 0.8",
        f"{best:.2f} ({over_all:.2f} with clean rows)",
        best >= 0.8,
    )
    yield Line(
        "at least 2 token-frequency neurons", "; ".join(describe(e, i) for i in frequent) or "none", len(frequent) >= 2
    )


@torch.inference_mode()
def induction_lines(model: Model, texts: Sequence[str], e: Evidence) -> Iterator[Line]:
    """The lines on repeated text."""
    scores = complete(head_scores(model, score_rows(model))).scores["induction"]
    layer, head = divmod(int(scores.argmax()), model.n_heads)
    yield Line(
        "an induction head with score > 0.7", f"{layer}.{head} scores {scores.max():.2f}", bool(scores.max() > 0.7)
    )
    documents = [model.encode(text, prepend_bos=False) for text in texts]
    length = min(99, (model.n_ctx - 1) // 2)
    repeated = repeat(natural_units(documents, length=length, n_rows=24, seed=0), bos=model.bos_id)
    found = complete(measure_rows(model, repeated.tokens))
    first, second = (float(found.metrics.entropy[:, repeated.copy(i)].mean()) for i in (0, 1))
    fall = 1 - second / first
    yield Line(
        "entropy falls by 30 % on the second copy", f"{first:.2f} to {second:.2f} nats, -{fall:.0%}", fall >= 0.3
    )
    largest = (
        differences(model.readout, found.activations, repeated).weighted.abs().argsort(descending=True)[:5].tolist()
    )
    among = [i for i in largest if i in entropy_neurons(e)]
    yield Line(
        "entropy neurons among the five largest weighted differences on repeats (wanted)", f"{among} of {largest}", None
    )


def eval_books(folder: Path) -> list[str]:
    """The two CC0 books of the eval folder."""
    return [(folder / name).read_text(encoding="utf-8") for name in BOOKS]


def loss_of(model: Model, books: Sequence[str]) -> HeldOut:
    """Held-out loss over all of them."""
    first, *others = (held_out(model, book) for book in books)
    return sum(others, first)


def loss_line(both: HeldOut) -> Line:
    """The line on held-out text."""
    found = f"{both.bits_per_byte:.3f} bits per byte, {both.nats_per_token:.3f} nats per token"
    return Line("at most 1.75 bits per byte on the two CC0 eval books", found, both.bits_per_byte <= 1.75)


COLUMNS = ("norm", "logit_var", "rho", "ln_fraction", "frequency_fraction", "d_entropy", "d_kl", "correlation")


def near_misses(e: Evidence) -> list[int]:
    """Neurons that fulfil every condition on an entropy neuron but the norm, strongest LN-mediated fraction first."""
    holds = (e.rho >= 0.85) & (e.logit_var <= 0.4 * e.logit_var.median())
    holds &= (e.ln_fraction >= 0.3) & (e.share_above(e.d_entropy) < 0.05) & (e.norm < 1.3 * e.norm.median())
    return sorted(holds.nonzero()[:, 0].tolist(), key=lambda i: -float(e.ln_fraction[i]))


def card_figures(e: Evidence) -> dict[str, object]:
    """What the model card states, for its test; norm and LogitVar as multiples of the layer's median."""
    groups = {"entropy": entropy_neurons(e), "entropy_but_norm": near_misses(e), "frequency": frequency_neurons(e)}
    columns = {name: getattr(e, name) for name in COLUMNS}
    for name in ("norm", "logit_var"):
        columns[name] = columns[name] / columns[name].median()
    every = sorted({i for group in groups.values() for i in group})
    neurons = {str(i): {name: round(float(values[i]), 4) for name, values in columns.items()} for i in every}
    return {"k": e.k, **groups, "neurons": neurons}


def summary(e: Evidence) -> dict[str, object]:
    """What the card's table of the bar states of one set of rows."""
    figures = {"strongest_ln_fraction": strongest_ln(e), "best_correlation": best_correlation(e)}
    return {
        "entropy": entropy_neurons(e),
        "frequency": frequency_neurons(e),
        **{name: round(value, 4) for name, value in figures.items()},
    }


def load(folder: Path) -> tuple[Model, Unigram]:
    model = models.load(registry.folder_spec(folder, prepend_bos=True))
    return model, frequency.load_counts(folder / "unigrams.npy", d_vocab=model.d_vocab)


@click.command()
@click.option("--model", "folder", type=click.Path(path_type=Path, exists=True), default=Path("models/demo"))
@click.option("--text", "eval_folder", type=click.Path(path_type=Path), default=Path("../shared/data/text/eval"))
@click.option("--card", type=click.Path(path_type=Path), help="Write the card's figures here, as JSON.")
@click.option("--threads", type=int, default=1)
def main(folder: Path, eval_folder: Path, card: Path | None, threads: int) -> None:
    """Print the bar."""
    torch.set_num_threads(threads)
    model, unigram = load(folder)
    texts, figures, sets = sample_texts(folder), dict[str, object](), dict[str, object]()
    for seed in SEEDS:
        evidence = measure(model, texts, unigram, seed=seed)
        click.echo(f"\nsample.jsonl, corruption seed {seed}, k = {evidence.k}")
        lines = [*last_layer_lines(evidence), *(induction_lines(model, texts, evidence) if seed == SEEDS[0] else ())]
        for line in lines:
            click.echo(str(line))
        if seed == SEEDS[0]:
            figures = card_figures(evidence)
        sets[f"seed {seed}"] = summary(evidence)
    if all((eval_folder / name).exists() for name in BOOKS):
        books = eval_books(eval_folder)
        evidence, loss = measure(model, books, unigram, seed=0, n_rows=EVAL_ROWS), loss_of(model, books)
        click.echo("\nthe two eval books, corruption seed 0")
        for line in (*last_layer_lines(evidence), loss_line(loss)):
            click.echo(str(line))
        sets["books"] = summary(evidence)
        figures["held_out"] = {"bits_per_byte": loss.bits_per_byte, "nats_per_token": loss.nats_per_token}
    else:
        click.echo(f"\n{eval_folder} does not hold the two eval books: no held-out figures")
    if card:
        card.write_text(json.dumps({**figures, "sets": sets}, indent=1) + "\n")


if __name__ == "__main__":
    main()
