"""The bibliography: nothing in the file is lost on the way, and what is wrong with it is said with its place."""

import html as html_module
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pybtex.database import parse_file

from aigc_lib.teaching import course_map
from aigc_lib.teaching.bibliography import KINDS, Reference, load, render
from aigc_lib.teaching.bibliography_checks import number_month, validate

ROOT = Path(__file__).parents[2]
FILE = ROOT / "data" / "references.bib"
REFERENCES = load()

WAVENET = """@misc{vandenoord2016,
  author = {van den Oord, A{\\"a}ron and Dieleman, Sander},
  title = {WaveNet: A Generative Model for Raw Audio},
  year = {2016},
  eprint = {1609.03499},
  archiveprefix = {arXiv},
}
"""
JOURNAL = """@article{dong2016,
  author = {Dong and Loy},
  title = {Super-Resolution},
  journal = {IEEE TPAMI},
  volume = {38},
  number = {2},
  pages = {295--307},
  year = {2016},
  doi = {10.1109/TPAMI.2015.2439281},
}
"""


@pytest.fixture
def file(tmp_path):
    def write(*blocks):
        path = tmp_path / "some.bib"
        path.write_text("\n".join(blocks), encoding="utf-8")
        return path

    return write


# --- the course's own ------------------------------------------------------------------------------------------------


def test_the_courses_bibliography_has_no_faults():
    assert validate() == []


def test_no_entry_of_the_file_is_lost_and_pybtex_reads_the_same_keys_in_one_go():
    headers = re.findall(r"^@\w+\{([^,]+),", FILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert list(REFERENCES) == headers == list(parse_file(FILE).entries)
    assert len(headers) >= 68


def test_the_course_map_reads_it_and_cites_nothing_else():
    document = course_map.load()
    assert document.references == REFERENCES
    assert {source.partition(", ")[0] for item in document.items for source in item.sources} <= set(REFERENCES)


def test_every_kind_has_an_example_or_is_for_others_to_use():
    assert {reference.kind for reference in REFERENCES.values()} <= set(KINDS)
    assert {"preprint", "proceedings", "journal", "book", "law", "code"} <= {r.kind for r in REFERENCES.values()}


def test_everything_can_be_rendered_with_its_title_its_year_and_its_links():
    text, html = render(), render(html=True)
    assert list(text) == list(html) == list(REFERENCES)
    for key, reference in REFERENCES.items():
        assert reference.title in text[key].replace("\n", " "), key
        assert str(reference.year) in text[key], key
        if reference.arxiv:
            assert f'href="https://arxiv.org/abs/{reference.arxiv}"' in html[key], key
        if reference.url:
            assert reference.url in html_module.unescape(html[key]), key


# --- reading ---------------------------------------------------------------------------------------------------------


def test_an_entry_becomes_a_reference(file):
    references = load(file("% a comment", WAVENET, "", JOURNAL))
    assert references["vandenoord2016"] == Reference(
        authors="van den Oord, Dieleman", title="WaveNet: A Generative Model for Raw Audio", venue="arXiv", year=2016,
        kind="preprint", arxiv="1609.03499",
    )  # fmt: skip
    assert references["dong2016"].venue == "IEEE TPAMI 38(2), 295--307".replace("--", "–")
    assert references["dong2016"].citation.endswith("doi:10.1109/TPAMI.2015.2439281")


@pytest.mark.parametrize(
    ("authors", "read", "cited"),
    [
        ("Elman, Jeffrey L.", "Elman", "Elman"),
        ("Kingma and Welling", "Kingma, Welling", "Kingma & Welling"),
        ("A and B and C", "A, B, C", "A et al."),
        ("Kumar and others", "Kumar and others", "Kumar et al."),
        ("{European Union}", "European Union", "European Union"),
        ("Patrick van der Smagt", "van der Smagt", "van der Smagt"),
        (r"Kynk{\"a}{\"a}nniemi", "Kynkäänniemi", "Kynkäänniemi"),
    ],
)
def test_authors_are_read_by_their_last_names_and_cited_by_up_to_two(file, authors, read, cited):
    (reference,) = load(file(re.sub("author = .*", lambda _: f"author = {{{authors}}},", JOURNAL))).values()
    assert (reference.authors, reference.citation.partition(" (")[0]) == (read, cited)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([WAVENET.replace("},\n  year", ",\n  year"), JOURNAL], "line 1: the entry vandenoord2016 is not closed"),
        ([JOURNAL, WAVENET.rstrip().removesuffix("}")], "line 12: the entry vandenoord2016 is not closed"),
        ([WAVENET, JOURNAL.replace("},\n  volume", "}\n  volume")], "line 13, entry dong2016: syntax error: "),
        ([WAVENET, JOURNAL.replace("year = ", "year ")], "line 16, entry dong2016: syntax error: '=' expected"),
        ([WAVENET, JOURNAL.replace("@article", "article")], "line 9: 'article{dong2016,' belongs to no entry"),
        ([JOURNAL.replace("@article", "article"), WAVENET], "line 1: 'article{dong2016,' belongs to no entry"),
        ([WAVENET + "}", JOURNAL], "line 8: '}' belongs to no entry"),
        ([JOURNAL, JOURNAL.replace("dong", "Dong")], "line 12: the key Dong2016 is there already, in line 1"),
        ([JOURNAL.replace("dong2016", "")], "line 1: expected an entry such as @article"),
        ([JOURNAL.replace("{IEEE TPAMI}", "tpami")], "entry dong2016: undefined string"),
        ([JOURNAL.replace("  year = {2016},\n", "  year = {2016},\n  year = {2017},\n")], "entry dong2016: .*year"),
        ([WAVENET, JOURNAL.replace("@article", "@artikel")], "line 9, entry dong2016: unknown kind ''"),
        ([WAVENET.replace("eprint", "number")], "line 1, entry vandenoord2016: unknown kind ''"),
        ([JOURNAL.replace("  title = {Super-Resolution},\n", "")], "line 1, entry dong2016: needs title"),
        ([JOURNAL.replace("{2016}", "{in press}")], "entry dong2016: needs a year in digits"),
        ([JOURNAL.replace("journal", "magazine")], "entry dong2016: needs one of booktitle, journal"),
    ],
)
def test_a_broken_entry_is_an_error_with_its_line_and_key(file, blocks, message):
    with pytest.raises(ValueError, match=message):
        load(file(*blocks))


@given(st.text(alphabet='@{}=,"%\n abtitle', max_size=60))
def test_whatever_is_put_between_two_entries_they_are_both_read_or_an_error_is_raised(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "between.bib"
    path.write_text(f"{WAVENET}\n{text}\n{JOURNAL}", encoding="utf-8")
    try:
        references = load(path)
    except ValueError:
        return
    assert {"vandenoord2016", "dong2016"} <= set(references)


def test_a_file_that_is_not_there_is_a_file_not_found(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "references.bib")


def test_latex_is_read_even_beside_a_package_that_answers_to_every_codec():
    program = "import codecs; from aigc_lib.teaching import bibliography; print(codecs.decode(r'K\\\"a', 'ulatex'))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, cwd=ROOT, check=True)
    assert done.stdout.decode("utf-8").strip() == "Kä"


# --- rendering -------------------------------------------------------------------------------------------------------


def test_a_rendered_entry_keeps_capitals_and_escapes_html(file):
    path = file(JOURNAL.replace("Super-Resolution", r"GANs \& <b>CNNs</b>"))
    assert render(path=path) == {
        "dong2016": "Dong and Loy. GANs & <b>CNNs</b>. IEEE TPAMI, 38(2):295–307, 2016. doi:10.1109/TPAMI.2015.2439281."
    }
    assert "GANs &amp; &lt;b&gt;CNNs&lt;/b&gt;" in render(html=True, path=path)["dong2016"]


def test_chosen_keys_are_rendered_in_the_order_asked_for_and_unknown_ones_are_an_error(file):
    path = file(WAVENET, JOURNAL)
    assert list(render(["dong2016", "vandenoord2016"], path=path)) == ["dong2016", "vandenoord2016"]
    with pytest.raises(KeyError, match="nobody1999"):
        render(["nobody1999"], path=path)


# --- what is wrong with them -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "when"),
    [("1406.2661", (2014, 6)), ("1501.00092", (2015, 1)), ("hep-th/9901001", (1999, 1)), ("cs.LG/0702001", (2007, 2))],
)
def test_an_arxiv_number_begins_with_its_month(number, when):
    assert number_month(number) == when


@pytest.mark.parametrize(
    "number",
    ["1413.2661", "1400.2661", "1406.26611", "1501.0009", "14062661", "arXiv:1406.2661", "cs/1406001", "0611.0001", ""],
)
def test_what_is_no_arxiv_number_is_refused(number):
    with pytest.raises(ValueError, match="no arXiv number"):
        number_month(number)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("1609.03499", "1613.03499", "'1613.03499' is no arXiv number"),
        ("1609.03499", "1709.03499", "arXiv:1709.03499 is of 2017, not of 2016"),
        ("1609.03499", "1509.03499", "arXiv:1509.03499 is of 2015, not of 2016"),
        ("eprint = {1609.03499}", "eprint = {1609.03499},\n  url = {https://arxiv.org/abs/1609 03499}", "no address"),
        ("eprint = {1609.03499}", "eprint = {1609.03499},\n  url = {ftp://arxiv.org/a}", "no address"),
        ("eprint = {1609.03499}", "eprint = {1609.03499},\n  url = {https://arxiv/a}", "no address"),
        ("eprint = {1609.03499}", "eprint = {1609.03499},\n  doi = {https://doi.org/10.1000/1}", "no DOI"),
    ],
)
def test_a_fault_is_named_with_its_key(file, old, new, problem):
    assert validate(file(WAVENET)) == []
    (found,) = validate(file(WAVENET.replace(old, new)))
    assert found.startswith("vandenoord2016: ")
    assert problem in found


def proceedings(name, year, arxiv="", note=""):
    links = f"  eprint = {{{arxiv}}},\n" * bool(arxiv) + f"  note = {{{note}}},\n" * bool(note)
    texts = f"  author = {{A}},\n  title = {{T}},\n  booktitle = {{{name}}},\n  year = {year},\n"
    return f"@inproceedings{{k,\n{texts}{links}}}\n"


@pytest.mark.parametrize(
    ("name", "year", "is_right"),
    [
        ("NIPS", 2017, True),
        ("NIPS", 2018, False),
        ("NeurIPS", 2018, True),
        ("NeurIPS", 2017, False),
        ("ICLR 2014", 2014, True),
        ("ICLR 2014", 2015, False),
        ("Proceedings of the 34th ICML", 2017, True),
    ],
)
def test_a_conference_has_the_name_that_it_had_in_that_year(file, name, year, is_right):
    assert (validate(file(proceedings(name, year))) == []) == is_right


def test_a_number_younger_than_the_work_needs_a_note_except_in_january(file):
    assert validate(file(proceedings("ICLR", 2017, "1605.08803"))) == []  # a preprint came first
    assert validate(file(proceedings("ICLR", 2017, "1801.00001"))) == []  # announced in the first days of January
    assert validate(file(proceedings("ICLR", 2017, "1802.00001"))) == [
        "k: arXiv:1802.00001 is of 2018, after the work of 2017"
    ]
    assert validate(file(proceedings("ICLR", 2017, "1802.00001", "On arXiv since 2018"))) == []


@pytest.mark.parametrize(
    ("twin", "problem"),
    [
        (WAVENET.replace("{vanden", "{van").replace("1609.03499", "1609.00001"), "the same title"),
        (WAVENET.replace("{vanden", "{van").replace("WaveNet:", "PixelNet:"), "the same arxiv"),
    ],
)
def test_the_same_work_under_two_keys_is_a_fault(file, twin, problem):
    twin = twin.replace("Raw Audio", "raw audio!")
    assert validate(file(WAVENET, twin)) == [f"vandenoord2016 and vanoord2016: {problem}"]
