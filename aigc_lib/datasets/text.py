"""Texts: Shakespeare's plays, Chinese–English sentence pairs, a pronouncing dictionary."""

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from string import ascii_letters

import torch
from torch import Tensor

from aigc_lib.datasets.base import Items, PairItem, Pronunciation, TextItem, split_of
from aigc_lib.datasets.provenance import info
from aigc_lib.datasets.sources import verify

# Three plays each, of three genres. A model is judged on plays of which it has not seen a scene.
HELD_OUT = {
    "comedies/twelfth-night": "test",
    "histories/henry-v": "test",
    "tragedies/macbeth": "test",
    "comedies/the-comedy-of-errors": "validation",
    "histories/richard-ii": "validation",
    "tragedies/king-lear": "validation",
}
UNTRANSLATED = re.compile(r"^placeholder|^PH$|[\u4e00-\u9fff]")


class CharacterVocabulary:
    """Characters as tokens: the i-th of `characters` is token i.

    Raises:
        ValueError: no character at all, or one twice.
    """

    def __init__(self, characters: str) -> None:
        if not characters or len(set(characters)) < len(characters):
            raise ValueError(f"a vocabulary holds every character once, and at least one; got {characters!r}")
        self.characters = characters
        self._tokens = {character: token for token, character in enumerate(characters)}

    def __len__(self) -> int:
        return len(self.characters)

    def encode(self, text: str) -> Tensor:
        """Text of T characters to tokens, (T,) int64.

        Raises:
            ValueError: a character that is not in the vocabulary; the message names it and its place.
        """
        try:
            return torch.tensor([self._tokens[character] for character in text], dtype=torch.int64)
        except KeyError:
            place = next(i for i, character in enumerate(text) if character not in self._tokens)
            raise ValueError(
                f"character {text[place]!r} at position {place} of the text is unknown; replace it by some of the "
                f"{len(self)} known ones: {self.characters!r}"
            ) from None

    def decode(self, tokens: Tensor) -> str:
        """Undo `encode`.

        Raises:
            ValueError: not (T,), or a token outside 0 to V - 1.
        """
        if tokens.ndim != 1:
            raise ValueError(f"expected the tokens of one text, (T,), got {tuple(tokens.shape)}")
        numbers = tokens.tolist()
        if wrong := [i for i, token in enumerate(numbers) if not 0 <= token < len(self)]:
            raise ValueError(f"token {numbers[wrong[0]]} at position {wrong[0]} is outside 0 to {len(self) - 1}")
        return "".join(map(self.characters.__getitem__, numbers))


SHAKESPEARE_CHARACTERS = CharacterVocabulary("\n !\"&',-.24568:;?" + "".join(sorted(ascii_letters)))


def plays(split: str) -> dict[str, str]:
    """The whole plays of a split of "shakespeare", key like "tragedies/macbeth", in the order of the package."""
    whole: dict[str, str] = {}
    for scene in shakespeare(split):
        play = scene.key.rsplit("/", 1)[0]
        whole[play] = whole.get(play, "") + scene.text
    return whole


def shakespeare(split: str) -> Items[TextItem]:
    """Shakespeare's 38 plays (with Edward III), one item a scene; all scenes of a play lie in one split.

    Each speech is the speaker's name in capitals with a colon, the lines as they stand, and an empty line. Headings and
    stage directions are left out. All is printable ASCII and line feeds, 69 different characters, so that a character
    model needs no unknown symbol. Held out are the plays of `HELD_OUT`.

    Returns:
        Items in the order of the plays' titles; key like "tragedies/hamlet/I.4", counting scenes and acts.
    """
    entry = info("shakespeare")
    files = {f"{path.parent.name}/{path.stem}": path for path in verify(entry).values()}
    chosen = [play for play in files if HELD_OUT.get(play, "train") == split]
    items = (item for play in chosen for item in _scenes(play, files[play]))
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
