"""The documents that ship with the program, as pages: headings numbered, links among them followed.

A template names a section as `methods:` and the beginning of its heading (`methods:ablating`); `cited` makes the link.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup, escape

from analysis.shipped import shipped
from analysis.types import NotFoundError

FOLDER = shipped("docs")
ORDER = ("methods", "glossary", "hosting", "cluster", "performance", "architecture", "development", "pages")
"""As they are listed; others follow by name."""

_CITED = re.compile(r"methods:([a-z-]+)|docs/methods\.md")


@dataclass(frozen=True)
class Heading:
    level: int
    number: str
    title: str
    anchor: str


@dataclass(frozen=True)
class Document:
    """title: its first heading. html: safe to show; raw HTML in a document is shown as text."""

    name: str
    title: str
    headings: tuple[Heading, ...]
    html: str


def names() -> list[str]:
    there = {file.stem for file in FOLDER.glob("*.md")}
    return [name for name in ORDER if name in there] + sorted(there.difference(ORDER))


@cache
def document(name: str, root: str = "") -> Document:
    """NotFoundError where there is none of that name. root: the proxy's prefix, for links."""
    if name not in names():
        raise NotFoundError(f"There is no document {name[:40]!r}.", hint=f"There are: {', '.join(names())}.")
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = reader.parse((FOLDER / f"{name}.md").read_text("utf-8"))
    headings = tuple(_numbered(tokens))
    for token in _all(tokens):
        href = str(token.attrGet("href") or "")
        if link := re.fullmatch(r"(?:docs/)?([a-z_-]+)\.md(#.*)?", href):
            token.attrSet("href", f"{root}/docs/{link[1]}{link[2] or ''}")
    html = reader.renderer.render(tokens, reader.options, {})
    html = html.replace("<table>", '<div class="scroll" tabindex="0"><table>').replace("</table>", "</table></div>")
    title = next((heading.title for heading in headings if heading.level == 1), name)
    return Document(name, title, headings, html)


def section(start: str) -> Heading:
    """The section of the methods whose anchor begins so."""
    return next(heading for heading in document("methods").headings if heading.anchor.startswith(start))


def cited(source: str, root: str = "") -> Markup:
    """A source as text in which sections of the methods are links."""
    parts: list[str] = []
    at = 0
    for found in _CITED.finditer(source):
        parts.append(str(escape(source[at : found.start()])))
        heading = section(found[1]) if found[1] else None
        anchor, said = (f"#{heading.anchor}", f"section {heading.number}") if heading else ("", "")
        parts.append(f'<a href="{escape(root)}/docs/methods{anchor}">Methods{", " if said else ""}{said}</a>')
        at = found.end()
    return Markup("".join(parts) + str(escape(source[at:])))


def _numbered(tokens: list[Token]) -> Iterator[Heading]:
    """Each heading, after its number and anchor were written into the tokens. The first heading has no number."""
    counts = [0] * 6
    taken: set[str] = set()
    for token, inline in pairwise(tokens):
        if token.type != "heading_open":
            continue
        level = int(token.tag[1])
        title = "".join(child.content for child in inline.children or ())
        number = ""
        if level > 1:
            counts[level - 2] += 1
            counts[level - 1 :] = [0] * (6 - level + 1)
            number = ".".join(map(str, counts[: level - 1]))
            text = Token("text", "", 0)
            text.content = f"{number}  "
            inline.children = [text, *(inline.children or ())]
        anchor = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"
        while anchor in taken:
            anchor += "-"
        taken.add(anchor)
        token.attrSet("id", anchor)
        yield Heading(level, number, title, anchor)


def _all(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _all(token.children or [])
