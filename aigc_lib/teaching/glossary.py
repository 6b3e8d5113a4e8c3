"""The terms of the course in English and Chinese: `data/glossary.yaml` is the one source, and chapters use its words.

A chapter introduces a term as `*receptive field* (感受野)`: the English term in italics, the Chinese one in parentheses
directly behind it. `pairs` finds these, and a test compares them with the glossary.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import NamedTuple

import ipywidgets

from aigc_lib import paths
from aigc_lib.teaching import yaml_files

_HAN = "[\u4e00-\u9fff]"
_PAIR = re.compile(rf"(?<!\*)\*([^*\n]+(?:\n[^*\n]+)?)\*(?!\*)\s*[(（]([^()（）]*{_HAN}[^()（）]*)[)）]")
_LOCATION = re.compile(r"\d\d_[a-z_]+#[a-z0-9-]+")
_FIELDS = {"term", "zh", "definition", "cell", "forms"}


@dataclass(frozen=True, kw_only=True)
class Term:
    """An entry: English and Chinese term, one sentence, the cell that introduces it, other English spellings."""

    term: str
    zh: str
    definition: str
    cell: str
    forms: tuple[str, ...] = ()

    @property
    def chapter(self) -> int:
        return int(self.cell[:2])


class Pair(NamedTuple):
    """A term as a chapter introduces it; `english` in lower case, `chinese` without spaces."""

    english: str
    chinese: str


def load(path: Path | None = None) -> tuple[Term, ...]:
    """All entries in alphabetical order.

    Raises:
        ValueError: the file is no list of entries, or an entry lacks a field, has an unknown one, an empty text, no
            Chinese character, no cell such as 02_core_concepts#core-audio, or a spelling that another entry has.
    """
    path = path or paths.data_dir() / "glossary.yaml"
    terms, owners = [_term(entry) for entry in yaml_files.entries(path, "entries")], {}
    for term in terms:
        for spelling in (term.term, *term.forms):
            if owners.setdefault(spelling.lower(), term) is not term:
                raise ValueError(f"{spelling!r} is in two entries of the glossary")
    return tuple(sorted(terms, key=lambda term: term.term.lower()))


def _term(entry: object) -> Term:
    if not isinstance(entry, dict) or not _FIELDS - {"forms"} <= set(entry) <= _FIELDS:
        raise ValueError(f"an entry of the glossary needs term, zh, definition and cell (and may have forms): {entry}")
    texts = [*(entry[name] for name in _FIELDS - {"forms"}), *entry.get("forms", [])]
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError(f"every field of a glossary's entry has to be text: {entry}")
    if not re.search(_HAN, entry["zh"]) or not _LOCATION.fullmatch(entry["cell"]):
        raise ValueError(f"an entry's zh has to be Chinese and its cell one like 02_core_concepts#core-audio: {entry}")
    return Term(**(entry | {"forms": tuple(entry.get("forms", []))}))


def pairs(markdown: str) -> list[Pair]:
    """What a text introduces as `*term* (中文)`. Of the parenthesis counts its first part that has Chinese in it."""
    found = []
    for english, inside in _PAIR.findall(markdown):
        chinese = next(part for part in re.split(r"[,;，；]", inside) if re.search(_HAN, part))
        found.append(Pair(" ".join(english.split()).lower(), re.sub(r"\s", "", chinese)))
    return found


def allowed(terms: Sequence[Term]) -> dict[str, str]:
    """The Chinese of every English spelling, both as in `Pair`."""
    return {form.lower(): re.sub(r"\s", "", each.zh) for each in terms for form in (each.term, *each.forms)}


def search(query: str, terms: Sequence[Term]) -> list[Term]:
    """Entries whose English or Chinese spelling holds `query`; if there are none, those whose definition does."""
    wanted = re.sub(r"\s+", " ", query).strip().lower()
    named = [
        each
        for each in terms
        if any(wanted in spelling.lower() for spelling in (each.term, *each.forms, each.zh, each.zh.replace(" ", "")))
    ]
    return named or [each for each in terms if wanted in each.definition.lower()]


def browser(terms: Sequence[Term]) -> ipywidgets.VBox:
    """A text field and the entries that fit what is typed in it, at most twelve."""
    field = ipywidgets.Text(
        description="Find a term", placeholder="English or 中文", style={"description_width": "initial"}
    )
    found = ipywidgets.HTML()

    def show(_change: object = None) -> None:
        hits = search(field.value, terms)
        lines = [f"<dt><b>{escape(t.term)}</b> {escape(t.zh)}</dt><dd>{escape(t.definition)} (chapter {t.chapter})</dd>"
                 for t in hits[:12]]  # fmt: skip
        found.value = f'<p role="status">{len(hits)} of {len(terms)} terms</p><dl>{"".join(lines)}</dl>'

    field.observe(show, names="value")
    show()
    return ipywidgets.VBox([field, found])
