"""What is wrong with the bibliography's entries, and what an arXiv number tells by itself."""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from aigc_lib.teaching import bibliography
from aigc_lib.teaching.bibliography import Reference

_ARXIV = re.compile(r"(?:[a-z-]+(?:\.[A-Z]{2})?/)?(?P<year>\d\d)(?P<month>0[1-9]|1[0-2])(?P<rest>\.\d{4,5}|\d{3})")


def validate(path: Path | None = None) -> list[str]:
    """What is wrong with the entries of a file that can be read, one line a problem; empty if nothing is.

    An arXiv number whose syntax or month does not exist; a number younger than the work (unless the entry's `note`
    says "On arXiv since"); a preprint dated otherwise than its number; addresses and DOIs that are none; NIPS after
    2017, NeurIPS before 2018 (the year of its new name), a year in the venue's name that is not the entry's; the same
    title, number or DOI twice. Raises as `load`.
    """
    references = bibliography.load(path)
    problems = [f"{key}: {fault}" for key, reference in references.items() for fault in _faults(reference)]
    for name in ("title", "arxiv", "doi"):
        holders = defaultdict(list)
        for key, reference in references.items():
            if value := getattr(reference, name):
                holders[re.sub(r"[\W_]+", "", value.casefold())].append(key)
        problems += [f"{' and '.join(keys)}: the same {name}" for keys in holders.values() if len(keys) > 1]
    return problems


def number_month(arxiv: str) -> tuple[int, int]:
    """Year and month of an arXiv number, which begins with them (arXiv help: "Understanding the arXiv identifier").

    A paper of the last days of a month may get a number of the next: 1701.00160 was submitted on 31 December 2016.

    Raises:
        ValueError: no arXiv number: YYMM.NNNN until 2014, YYMM.NNNNN since, or archive/YYMMNNN until March 2007.
    """
    found = _ARXIV.fullmatch(arxiv)
    if found:
        year = int(found["year"]) + (1900 if found["year"] > "90" else 2000)
        when = year, int(found["month"])
        new_style = 5 if when < (2015, 1) else 6  # with its dot
        expected = new_style if "/" not in arxiv else 3
        if len(found["rest"]) == expected and (when >= (2007, 4)) == ("/" not in arxiv):
            return when
    raise ValueError(f"{arxiv!r} is no arXiv number: expected YYMM.NNNNN with a month from 01 to 12")


def _faults(reference: Reference) -> Iterator[str]:
    late = reference.note.startswith("On arXiv since")
    if reference.arxiv is not None:
        try:
            year, month = number_month(reference.arxiv)
        except ValueError as error:
            yield str(error)
        else:
            year -= month == 1 and year == reference.year + 1  # of the last days of December
            if reference.kind == "preprint" and year != reference.year:
                yield f"arXiv:{reference.arxiv} is of {year}, not of {reference.year}"
            elif year > reference.year and not late:
                yield f"arXiv:{reference.arxiv} is of {year}, after the work of {reference.year}"
    if reference.url is not None:
        parts = urlsplit(reference.url)
        host = re.fullmatch(r"([a-z0-9-]+\.)+[a-z]{2,}", parts.netloc)
        if parts.scheme not in ("http", "https") or not host or re.search(r"[^!-~]", reference.url):
            yield f"{reference.url!r} is no address"
    if reference.doi is not None and not re.fullmatch(r"10\.\d{4,9}/[!-~]+", reference.doi):
        yield f"{reference.doi!r} is no DOI: it begins with 10. and has no https"
    if re.search(r"\bNIPS\b", reference.venue) and reference.year > 2017:
        yield f"NIPS has been NeurIPS since 2018, this is of {reference.year}"
    if re.search(r"\bNeurIPS\b", reference.venue) and reference.year < 2018:
        yield f"NeurIPS was NIPS until 2017, this is of {reference.year}"
    years = re.findall(r"\b(?:19|20)\d\d\b", reference.venue)
    if reference.kind == "proceedings" and years and str(reference.year) not in years:
        yield f"{reference.venue!r} is not of {reference.year}"
