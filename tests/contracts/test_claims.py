"""A sentence that is written beforehand says of no model what its neurons do: signs and roles differ between models, so
such a sentence is made from numbers, with the words that they decide."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

WHO = r"(?:entropy|frequency|confidence|these|some|such|its|the model's) neurons?"
DOES = r"(?:raise|lower|hold|keep|push|pushe|pull|calm|dampen|increase|decrease|regulate|suppresse?)s?"
CLAIMS = (
    rf"\b{WHO} (?:that )?{DOES}\b",
    r"\bneurons? hold(?:s|ing)? (?:it|confidence|entropy) (?:back|up|down)\b",
    r"\b(?:raises?|lowers?|increases?) the (?:final )?(?:LayerNorm|LN|norm)(?:'s)? ?(?:scale)?",
    r"\bconfidence (?:rises|falls|grows)\b",
    r"\bfalls? back on the unigram\b",
    r"\btell(?:s|ing)? (?:them|the neurons?) so\b",
)
FILES = [
    *(path for path in (ROOT / "templates").rglob("*.html")),
    *(ROOT / "docs" / name for name in ("glossary.md", "pages.md", "architecture.md")),
    ROOT / "README.md",
]


def claims(text: str) -> list[str]:
    """What a text states as a fact of every model; words that a template chooses by a number are no part of it."""
    spoken = re.sub(r"{[{%#].*?[}%#]}", " ", text, flags=re.DOTALL)
    spoken = " ".join(re.sub(r"<[^>]+>", " ", spoken).split())
    return [found[0] for each in CLAIMS for found in re.finditer(each, spoken, re.IGNORECASE)]


CODE = [path for folder in ("analysis", "app", "nullscope") for path in (ROOT / folder).rglob("*.py")]


def texts_of(source: str) -> list[str]:
    """Every text in a program: captions and descriptions; what a number puts into one is no part of it."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            found.append("".join(str(part.value) if isinstance(part, ast.Constant) else " … " for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
    return found


def test_no_caption_says_of_every_model_what_its_neurons_do() -> None:
    assert len(CODE) > 300
    said = {str(path): [each for text in texts_of(path.read_text("utf-8")) for each in claims(text)] for path in CODE}
    assert {path: found for path, found in said.items() if found} == {}
    assert any(map(claims, texts_of('f"Marked: {n}. Such neurons raise the LN scale."')))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_page_says_of_every_model_what_its_neurons_do(path) -> None:
    assert claims(path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        "Some neurons push the prediction towards common tokens.",
        "What is written there raises the final LayerNorm's scale.",
        "Which neurons hold it back, which heads tell them so.",
        "With no better idea, a model falls back on the unigram distribution.",
    ],
)
def test_the_sentences_that_once_stood_there_would_be_found(text: str) -> None:
    assert claims(text) != []


def test_a_sentence_whose_words_follow_from_numbers_is_none() -> None:
    assert claims('{{ neuron }} {{ "raises the LN scale" if up else "lowers the LN scale" }} here') == []
