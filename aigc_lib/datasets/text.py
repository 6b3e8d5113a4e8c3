"""Texts: Shakespeare's plays, Chinese–English sentence pairs, a pronouncing dictionary."""

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path

from aigc_lib.datasets.base import Items, PairItem, Pronunciation, TextItem, split_groups, split_of
from aigc_lib.datasets.provenance import info
from aigc_lib.datasets.sources import verify

UNTRANSLATED = re.compile(r"^placeholder|^PH$|[\u4e00-\u9fff]")


def shakespeare(split: str) -> Items[TextItem]:
    """Shakespeare's 38 plays (with Edward III), one item a scene; all scenes of a play lie in one split.

    Each speech is the speaker's name in capitals with a colon, the lines as they stand, and an empty line. Headings and
    stage directions are left out. All is printable ASCII and line feeds, 69 different characters, so that a character
    model needs no unknown symbol.

    Returns:
        Items in the order of the plays' titles; key like "tragedies/hamlet/I.4", counting scenes and acts.
    """
    entry = info("shakespeare")
    plays = {f"{path.parent.name}/{path.stem}": path for path in verify(entry).values()}
    splits = split_groups(plays)
    items = (item for key, path in plays.items() if splits[key] == split for item in _scenes(key, path))
    return Items(items, info=entry, split=split)


def _scenes(play: str, path: Path) -> Iterator[TextItem]:
    # Acts and scenes are headings; how many signs of "#" they carry differs between the files.
    parts = re.split(r"^#+ *(.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    act, scene = "0", 0
    for heading, body in zip(parts[::2], parts[1::2], strict=True):
        if match := re.match(r"ACT ([IV]+)", heading, flags=re.IGNORECASE):
            act, scene = match[1], 0
        speeches = _speeches(body)
        if speeches:
            scene += 1
            yield TextItem(text="\n\n".join(speeches) + "\n\n", key=f"{play}/{act}.{scene}")


def _speeches(body: str) -> list[str]:
    """Each speech as "NAME:" and its lines. A paragraph without a name, after a direction, continues the speech."""
    speeches: list[list[str]] = []
    for paragraph in re.split(r"\n\s*\n", body):
        name = re.match(r"\s*\*\*(.+?)\*\* *(?:\n|$)", paragraph)
        lines = _spoken(paragraph[name.end() :] if name else paragraph)
        if name:
            speeches.append([f"{name[1].upper().replace(':', '').strip()}:", *lines])
        elif speeches:
            speeches[-1] += lines
    return ["\n".join(speech) for speech in speeches if len(speech) > 1]


def _spoken(paragraph: str) -> list[str]:
    """The lines of a paragraph without stage directions.

    Directions are marked as `_Exit_`, `_[Aside]_`, `*Exit.*`; some files forget a mark. Numbered lines are the
    order of a procession.
    """
    text = re.sub(r"\\(.)", r"\1", html.unescape(paragraph)).replace("—", "--")
    if re.match(r"\s*\d+\.", text):
        return []
    for direction in (r"[_*]*\[[^]]*\][_*]*", r"_[^_]*_", r"\*[^*]*\*"):
        text = re.sub(direction, "", text)
    lines = (" ".join(line.split()) for line in text.replace("sha$l", "shall").splitlines())
    return [line for line in lines if line and "_" not in line]


def zh_en(split: str) -> Items[PairItem]:
    """4,270 short Chinese sentences with pinyin and English translation, graded by HSK level.

    Left out are 82 sentences of the package whose translation is a placeholder and two in whose translation Chinese
    characters stand. Sentences that share their Chinese or their English side lie in one split.

    Returns:
        Items; key like "hsk1-0001".
    """
    entry = info("zh-en")
    pairs = zh_en_pairs()
    groups = sentence_groups([(pair.source, pair.target) for pair in pairs])
    chosen = [pair for pair, group in zip(pairs, groups, strict=True) if split_of(group) == split]
    return Items(chosen, info=entry, split=split)


def zh_en_pairs() -> list[PairItem]:
    """All pairs, in the order of the package."""
    (path,) = verify(info("zh-en")).values()
    return [
        PairItem(
            source=record["chinese"],
            target=record["translation"]["en"],
            pinyin=record["pinyin"],
            level=record["hsk_level"],
            key=record["id"],
        )
        for record in json.loads(path.read_text(encoding="utf-8"))
        if not UNTRANSLATED.search(record["translation"]["en"])
    ]


def sentence_groups(pairs: list[tuple[str, str]]) -> list[str]:
    """A group name for each pair: pairs that share a side, directly or by way of others, share their name.

    Case and everything but letters and digits are ignored. The name is the smallest side of the group, so it does not
    depend on the order.
    """
    parent: dict[str, str] = {}

    def root(side: str) -> str:
        while parent.setdefault(side, side) != side:
            side = parent[side]
        return side

    sides = [tuple("".join(filter(str.isalnum, side.lower())) for side in pair) for pair in pairs]
    for source, target in sides:
        first, second = sorted((root(source), root(target)))
        parent[second] = first
    return [root(source) for source, _ in sides]


def pronunciations(split: str) -> Items[Pronunciation]:
    """The CMU pronouncing dictionary as pocketsphinx carries it: 134,860 ways to say 126,000 English words.

    Further ways to say a word ("read(2)") lie in the split of the word, and so do words that differ only in their
    apostrophes, hyphens, underscores and full stops.

    Returns:
        Items in alphabetical order; phonemes are the 39 of ARPAbet, without stress marks.
    """
    entry = info("pronunciations")
    (path,) = verify(entry).values()
    items = []
    for line in path.read_text(encoding="utf-8").splitlines():
        key, *phonemes = line.split()
        word = re.sub(r"\(\d+\)$", "", key)
        if split_of(re.sub(r"[^a-z0-9]", "", word)) == split:
            items.append(Pronunciation(word=word, phonemes=tuple(phonemes), key=key))
    return Items(items, info=entry, split=split)
