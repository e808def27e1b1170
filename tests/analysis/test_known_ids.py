"""Tokenizers and models that do not agree on their ids: holes in the numbering, and tokens that the model lacks."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from analysis import corpus, selfcheck
from analysis.corpus import RowRule
from analysis.counting import count_tokens
from analysis.frequency import unigram
from analysis.model import Model, from_objects
from analysis.registry import ModelSpec
from analysis.token_frequency import spread
from analysis.types import InputError, TokenFilter
from analysis.weights import Vocabulary, moments
from tests import tiny, vocabularies
from tests.tolerance import close

HOLES = frozenset({*range(3, 7), 100})
D_VOCAB = 268  # 259 tokens, five holes, four ids behind


@cache
def tokenizer() -> Any:
    """The bytes at ids with holes between them."""
    ids = [index for index in range(D_VOCAB) if index not in HOLES]
    pieces = ["<pad>", "<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    backend = Tokenizer(models.BPE(vocab=dict(zip(pieces, ids, strict=False)), merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def model_with(tokens: Any, name: str = "gpt2", **changes: Any) -> Model:
    return from_objects(ModelSpec("tiny"), tiny.hf_model(name, **changes), tokens, weights_sha256="0" * 64)


@pytest.fixture(scope="module")
def holed() -> Model:
    return model_with(tokenizer(), vocab_size=D_VOCAB)


def test_statistics_are_over_the_known_ids_alone(holed: Model) -> None:
    known = [index for index in range(D_VOCAB - 4) if index not in HOLES]
    assert holed.known.tolist() == known
    counts = unigram(torch.arange(D_VOCAB), d_vocab=D_VOCAB, source="made up")
    found = Vocabulary.of(holed.readout, counts)
    columns = holed.readout.W_U[:, known]
    close(found.gram, columns @ columns.T, len(known))
    unit = columns / columns.norm(dim=0)
    close(found.unit_covariance, torch.cov(unit), len(known), scale=1)
    close(found.frequency, columns @ counts.direction[known], len(known))

    rows = holed.write_rows(1)[:4]
    extremes = moments(rows, found)
    for row, raised, lowered in zip(rows, extremes.raised, extremes.lowered, strict=True):
        effect = row @ columns
        assert raised.tolist() == [known[place] for place in effect.topk(5).indices]
        assert lowered.tolist() == [known[place] for place in (-effect).topk(5).indices]


def test_no_unknown_id_is_drawn(holed: Model) -> None:
    from analysis.induction.heads import score_rows

    drawn = score_rows(holed, n_rows=8).tokens
    assert set(drawn.flatten().tolist()) <= set(holed.known.tolist())
    assert int(drawn.max()) > holed.n_tokens  # beyond a prefix as long as the vocabulary
    assert set(spread(holed.known, 6000).tolist()) <= set(holed.known.tolist())
    assert all(finding.holds for finding in selfcheck.run(holed))


def test_counting_reaches_the_largest_id(tmp_path: Path) -> None:
    tokenizer().save_pretrained(tmp_path)
    tiny.config("gpt2", vocab_size=D_VOCAB).save_pretrained(tmp_path)
    counts = count_tokens(tmp_path, ["aí"])
    assert (int(counts.sum()), int(counts[-1])) == (3, 1)  # the second byte of í has the last id
    assert unigram(torch.from_numpy(counts), d_vocab=D_VOCAB, source="text").counts.sum() == 3


@pytest.fixture(scope="module")
def extended() -> Model:
    """A tokenizer with a word that the model has no row for."""
    tokens = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tiny.tokenizer().backend_tokenizer.to_str()),
        pad_token="<pad>", bos_token="<s>", eos_token="</s>",
    )  # fmt: skip
    tokens.add_tokens([f"w{n}" for n in range(20)])
    return model_with(tokens)


def test_a_token_that_the_model_lacks_is_named_with_its_document(extended: Model, tmp_path: Path) -> None:
    rule = RowRule(length=8, bos=1, token_filter=TokenFilter(first=0), excluded=frozenset())
    with pytest.raises(InputError, match="Document 2: 'w19' is token 278") as error:
        list(corpus.prepare(["some w3", "and w19"], extended, rule, tmp_path / "run"))
    assert error.value.code == "unknown_token"
    with pytest.raises(InputError, match="'w19'"):
        extended.encode("a w19")
    assert extended.encode("a w3")


def test_counts_beyond_the_vocabulary_are_another_tokenizers() -> None:
    longer = torch.tensor([1, 2, 3, 0, 0])
    assert unigram(longer, d_vocab=3, source="text").counts.tolist() == [1, 2, 3]
    with pytest.raises(InputError, match="the vocabulary only 3"):
        unigram(longer + 1, d_vocab=3, source="text")


@pytest.mark.parametrize("text", [" ", ", ", "the", "\n", "\n\n", " the."])
def test_a_text_between_others_gets_no_space_of_its_own(text: str) -> None:
    tokens = vocabularies.build("sentencepiece")
    model = model_with(tokens, "llama", vocab_size=len(tokens) + 3)
    assert "".join(model.token_texts(model.encode(text, prepend_bos=False))) == f" {text}"
    assert "".join(model.token_texts(model.encode_within(text))) == text


def test_the_end_of_text_ends_a_document_by_choice(holed: Model, tmp_path: Path) -> None:
    end = holed.tokenizer.eos_token_id
    text = f"{'a' * 9}</s>{'b' * 5}</s>"
    a, b = (holed.encode(letter, prepend_bos=False)[0] for letter in "ab")

    def rows(**choice: Any) -> list[list[int]]:
        rule = RowRule(length=7, bos=1, token_filter=TokenFilter(first=0), excluded=frozenset({1, end}), **choice)
        folder = tmp_path / str(choice)
        list(corpus.prepare([text], holed, rule, folder))
        return list(corpus.RowSet.open(folder))

    assert rows(end=end) == [[1, *[a] * 6], [1, a, a, a], [1, *[b] * 5]]
    assert rows() == [[1, *[a] * 6], [1, a, a, a, end, b, b], [1, b, b, b, end]]


@pytest.mark.parametrize("n_tokens", [0, 1, 2, 3, 7, 100])
def test_the_beginning_that_fits_has_no_more_tokens(n_tokens: int) -> None:
    tokens = vocabularies.build("sentencepiece")
    model = model_with(tokens, "llama", vocab_size=len(tokens) + 3)
    text = "the ☃ the then☃"
    cut = model.fitting(text, n_tokens)
    assert text.startswith(cut)
    assert len(model.encode(cut)) <= n_tokens or not cut
    assert cut == text or len(model.encode(text[: len(cut) + 1])) > n_tokens
