"""The glossary holds every term that a chapter introduces, with the same Chinese, and knows where that is."""

import nbformat
import pytest
import yaml

from aigc_lib.teaching import glossary
from tests.notebooks.rules import ROOT

TERMS = glossary.load()
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ENTRY = {"term": "mode", "zh": "模式", "definition": "A peak.", "cell": "02_core_concepts#core-ring"}


def prose(path):
    cells = nbformat.v4.reads(path.read_text(encoding="utf-8")).cells
    return {cell.id: cell.source for cell in cells if cell.cell_type == "markdown"}


def written(tmp_path, content):
    path = tmp_path / "glossary.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, allow_unicode=True), "utf-8")
    return path


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_every_term_of_a_chapter_is_in_the_glossary_with_the_same_chinese(chapter):
    allowed = glossary.allowed(TERMS)
    faults = [
        f"{cell}: {pair.english} is {pair.chinese} here and {allowed.get(pair.english, 'not')} in the glossary"
        for cell, text in prose(chapter).items()
        for pair in glossary.pairs(text)
        if allowed.get(pair.english) != pair.chinese
    ]
    assert faults == []


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_every_entry_names_a_cell_that_introduces_it(chapter):
    cells = prose(chapter)
    wrong = []
    for term in TERMS:
        name, _, cell = term.cell.partition("#")
        if name == chapter.stem:
            introduced = {pair.english for pair in glossary.pairs(cells.get(cell, ""))}
            if not introduced & {form.lower() for form in (term.term, *term.forms)}:
                wrong.append(term.term)
    assert wrong == []


def test_every_entry_names_a_chapter_that_is_there():
    assert {term.cell.partition("#")[0] for term in TERMS} <= {path.stem for path in CHAPTERS}


def test_definitions_are_one_short_sentence_each():
    assert [term.term for term in TERMS if not term.definition.endswith(".") or len(term.definition) > 130] == []


def test_no_two_entries_say_the_same():
    assert len({term.definition for term in TERMS}) == len(TERMS)


@pytest.mark.parametrize(
    ("markdown", "found"),
    [
        ("a *receptive field* (感受野) of", [("receptive field", "感受野")]),
        ("*KV\ncache* (键值缓存)", [("kv cache", "键值缓存")]),
        ("*AIGC* (AI 生成内容, also 生成式人工智能, *generative AI*)", [("aigc", "AI生成内容")]),
        ("*BPTT* (BPTT，随时间反向传播)", [("bptt", "随时间反向传播")]),
        ("*EM* (EM 算法; Dempster 1977)", [("em", "EM算法")]),
        ("**Bold** (粗体) and *Kanto* (a plain word) and *top-k* keeps", []),
    ],
)
def test_pairs_are_found_as_chapters_write_them(markdown, found):
    assert [tuple(pair) for pair in glossary.pairs(markdown)] == found


@pytest.mark.parametrize("query", ["receptive", "感受野", " Receptive  Field ", "RECEPTIVE FIELD"])
def test_a_term_is_found_by_either_language(query):
    assert "receptive field" in [term.term for term in glossary.search(query, TERMS)]


def test_what_no_term_is_called_is_looked_for_in_the_definitions():
    assert [term.term for term in glossary.search("unfolded in a drawer", TERMS)] == []
    assert "hard cut" in [term.term for term in glossary.search("change of shot", TERMS)]


def test_spaces_inside_chinese_do_not_matter():
    (term,) = [each for each in TERMS if each.term == "Kullback–Leibler divergence"]
    assert term in glossary.search("KL散度", TERMS)
    assert term in glossary.search("KL 散度", TERMS)
    assert glossary.allowed(TERMS)["kullback–leibler divergence"] == "KL散度"


@pytest.mark.parametrize(
    "content",
    [
        "a: [",
        "just text",
        [],
        [ENTRY, ENTRY],
        [ENTRY, ENTRY | {"term": "modes", "forms": ["Mode"]}],
        [{name: text for name, text in ENTRY.items() if name != "zh"}],
        [ENTRY | {"pinyin": "móshì"}],
        [ENTRY | {"definition": " "}],
        [ENTRY | {"zh": "mode"}],
        [ENTRY | {"cell": "chapter 2"}],
    ],
)
def test_a_faulty_glossary_is_refused(tmp_path, content):
    with pytest.raises(ValueError, match=r"glossary|entry"):
        glossary.load(written(tmp_path, content))


def test_the_field_filters_and_escapes():
    box = glossary.browser(
        [glossary.Term(**ENTRY | {"definition": "A <peak>."}), glossary.Term(**ENTRY | {"term": "zz"})]
    )
    field, found = box.children
    assert "2 of 2 terms" in found.value
    assert "&lt;peak&gt;" in found.value
    field.value = "zz"
    assert "1 of 2 terms" in found.value
    field.value = "nothing like it"
    assert "0 of 2 terms" in found.value
