"""What a tokenizer cannot read is counted, or refused with its name; never passed over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis import corpus, reference
from analysis.corpus import RowRule
from analysis.counting import count_tokens
from analysis.model import Model, from_objects
from analysis.registry import ModelSpec
from analysis.types import InputError, TokenFilter
from analysis.unread import Reader
from tests import tiny, vocabularies

READS_ALL = ("byte_level", "sentencepiece")
SILENT = ("bpe", "bytes", "words")


def model_with(tokens: object) -> Model:
    return from_objects(ModelSpec("tiny"), tiny.hf_model("gpt2"), tokens, weights_sha256="0" * 64)


@pytest.mark.parametrize("kind", vocabularies.KINDS)
def test_the_unknown_token_is_the_tokenizers_own(kind: str) -> None:
    """transformers knows of none here: each was built without its `unk_token`."""
    tokens = vocabularies.build(kind)
    assert tokens.unk_token_id is None
    reader = Reader(tokens, "tiny")
    assert (reader.unknown_id in reader.ids("☃☃ 漢 the")) == (kind not in READS_ALL)
    assert reader.unknown_id not in reader.ids("the")


@pytest.mark.parametrize("kind", ["word", "wordpiece", "character", "unigram"])
def test_a_mean_over_unread_text_is_refused(kind: str) -> None:
    model = model_with(vocabularies.build(kind))
    rows = reference.rows_of(model, ["the 漢字 漢字 漢字"])
    assert reference.unknown_share(model, rows) > 0.3
    with pytest.raises(InputError, match="are unknown to the tokenizer"):
        list(reference.compute(model, rows, source="text"))


@pytest.mark.parametrize("kind", ["word", "wordpiece", "character", "unigram"])
def test_counts_of_unread_text_are_refused(kind: str, tmp_path: Path) -> None:
    """The unigram distribution would be that of the unknown token."""
    vocabularies.build(kind).save_pretrained(tmp_path)
    tiny.config("gpt2").save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"of the tokens of some\.txt are unknown .* counts of them would say nothing"):
        count_tokens(tmp_path, ["the 漢字 漢字 漢字"], source="some.txt")
    assert count_tokens(tmp_path, ["the " * 40]).sum() >= 40


@pytest.mark.parametrize("kind", SILENT)
def test_what_would_be_left_out_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    tokens = vocabularies.without_unknown(kind)
    model = model_with(tokens)
    with pytest.raises(InputError, match="cannot read '☃'") as error:
        model.encode("abc ☃ é")
    assert error.value.code == "unreadable_text"
    rule = RowRule(length=8, bos=None, token_filter=TokenFilter(first=0), excluded=model.excluded_ids)
    with pytest.raises(InputError, match=r"Document 2: .*'☃'"):
        list(corpus.prepare(["a bad node", "then ☃"], model, rule, tmp_path / "run"))
    tokens.save_pretrained(tmp_path)
    tiny.config("gpt2").save_pretrained(tmp_path)
    with pytest.raises(InputError, match="'☃'"):
        count_tokens(tmp_path, ["☃"])
    assert int(np.sum(count_tokens(tmp_path, ["a bad"]))) == 5


@pytest.mark.parametrize("kind", ["bpe", "bytes"])
def test_what_a_tokenizer_changes_on_purpose_is_no_loss(kind: str) -> None:
    """Large letters made small, and a line's end that there is no token for."""
    tokens = vocabularies.without_unknown(kind)
    text = "A bad\u2003node" if kind == "bpe" else "A bad\nnode"
    assert len(Reader(tokens, "tiny").ids(text)) >= len("Abadnode")
