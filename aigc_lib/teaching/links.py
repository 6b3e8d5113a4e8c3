"""What a printed reference says about itself without being opened: is it an address, and whose number does it carry?

An arXiv number begins with the year and month of the submission ("Understanding the arXiv identifier", arXiv help), so
that number, title and year of a paper can contradict each other. A syntactically right address of a page can only be
opened, and nothing here reaches the network.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from aigc_lib.teaching.bibliography_checks import number_month
from aigc_lib.teaching.course_map import Reference

VERDICTS = ("right", "no address", "another paper's number", "unknown number", "not to be told offline")


class Link(NamedTuple):
    """A printed link, taken apart."""

    title: str
    address: str
    month: tuple[int, int] | None  # year and month of its arXiv number
    belongs_to: str  # the title in the bibliography under this number or address, or ""
    verdict: str  # one of VERDICTS


def judge(printed: str, references: Mapping[str, Reference]) -> Link:
    """Judge `[title](address)` against a bibliography.

    Raises:
        ValueError: it is no such link.
    """
    found = re.fullmatch(r"\[(.+)\]\((.+)\)", printed)
    if not found:
        raise ValueError(f"expected a link [title](address), got {printed!r}")
    title, address = found.groups()
    if not is_address(address):
        return Link(title, address, None, "", "no address")
    number = re.fullmatch(r"https?://arxiv\.org/abs/([^/]+?)(?:v\d+)?", address)
    if number:
        holder = next((r.title for r in references.values() if r.arxiv == number[1]), "")
        wrong = "another paper's number" if holder else "unknown number"
        return Link(title, address, number_month(number[1]), holder, "right" if holder == title else wrong)
    same = [r.title for r in references.values() if r.url and r.url.rstrip("/") == address.rstrip("/")]
    holder = next(iter(same), "")
    return Link(title, address, None, holder, "right" if holder == title else "not to be told offline")


def is_address(text: str) -> bool:
    """Whether a text has the form of an http address: a scheme, a host of letters, digits and hyphens, no blanks."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    host = re.fullmatch(r"([A-Za-z0-9-]+\.)+[A-Za-z]{2,}(:\d+)?", parts.netloc)
    return parts.scheme in ("http", "https") and host is not None and not re.search(r"[^!-~]", text)
