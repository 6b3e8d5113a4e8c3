"""The house rules of notebooks: each takes a chapter and gives its faults in words."""

import ast
import re
from functools import cache
from itertools import takewhile
from pathlib import Path
from statistics import median

import nbformat
import yaml

from tests.notebooks import build

ROOT = Path(__file__).parents[2]
COMPLETE = {1, 2}  # chapters of which the whole of their section is written

HAN = r"[\u4e00-\u9fff]"
NETWORK = (
    r"https?://(?!www\.w3\.org/)|\burlopen\b|\b(import|from) (requests|httpx|urllib|socket)\b|from_pretrained|[!%]pip"
)
MACHINE_PATH = r"(?<![\w.:/<-])/(home|root|Users|tmp|usr|opt|var|mnt|private|content)/\w|\b[A-Z]:\\\w|site-packages"


class Chapter:
    """A stored notebook and the ways in which rules look at it."""

    def __init__(self, path):
        self.path, self.number = path, int(path.stem[:2])
        self.cells = nbformat.v4.reads(path.read_text(encoding="utf-8")).cells  # `nbformat.read` would mend faults
        self.code = [cell for cell in self.cells if cell.cell_type == "code" and cell.source.strip()]
        self.prose = [cell for cell in self.cells if cell.cell_type == "markdown"]

    def outputs(self):
        """Pairs of a cell and one of its outputs."""
        return [(cell, output) for cell in self.code for output in cell.outputs]


def text_of(output):
    """All text of an output, without the bytes of pictures, sound and video in it."""
    data = output.get("data", {})
    texts = [output.get("text", ""), *(data.get(kind, "") for kind in ("text/plain", "text/html", "text/markdown"))]
    return re.sub(r"base64,[A-Za-z0-9+/=]+", "", "\n".join(texts))


def passes_checks(cell):
    return any(line.startswith(("✓", "✗ refuted")) for output in cell.outputs for line in text_of(output).splitlines())


def words(cell):
    """Number of words of the paragraphs: no headings, tables, code or display formulas; an inline formula is a word."""
    text = re.sub(r"```.*?```|\$\$.*?\$\$|<[^>]+>", "", cell.source, flags=re.DOTALL)
    text = re.sub(r"\$[^$\n]+\$", "formula", re.sub(r"(?m)^\s*[#|].*$", "", text))
    return len(re.findall(r"\S*\w\S*", text))


def every_cell_was_executed_without_error(chapter):
    missing = [f"{cell.id} was not executed" for cell in chapter.code if not cell.execution_count]
    return missing + [f"{cell.id} holds an error" for cell, out in chapter.outputs() if out.output_type == "error"]


def the_parameters_are_the_three_and_begin_follows(chapter):
    tagged = [i for i, cell in enumerate(chapter.code) if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        return [f"{len(tagged)} cells are tagged parameters"]
    faults = [] if chapter.code[tagged[0]].source == build.PARAMETERS else ["the parameters cell is not the usual one"]
    following = chapter.code[tagged[0] + 1 : tagged[0] + 2]
    return faults + ([] if following and "begin(" in following[0].source else ["begin(...) does not follow it"])


def ids_are_telling_and_unique(chapter):
    ids = [cell.get("id", "") for cell in chapter.cells]
    faults = [f"id {id!r}" for id in ids if not re.fullmatch(r"[a-z0-9-]{1,64}", id)]
    faults += [f"id {id} says nothing" for id in ids if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f-]+)?", id)]
    return faults + [f"id {id} twice" for id in sorted(set(ids)) if ids.count(id) > 1]


def it_opens_with_title_prerequisites_and_cost(chapter):
    first = chapter.cells[0].source
    faults = [f"no {word}" for word in ("prerequisite", "minute", "memory", "data") if word not in first.lower()]
    titled = re.match(rf"# {chapter.number} · .*[A-Za-z].* \((.*{HAN}.*)\)\n", first + "\n")
    if not titled:
        return [*faults, f"the first line is not '# {chapter.number} · English (中文)'"]
    known = next(each["zh"] for each in course_map()["chapters"] if each["number"] == chapter.number)
    return faults if titled[1] in known else [*faults, f"{titled[1]} is not in the document's title {known}"]


@cache
def course_map():
    return yaml.safe_load((ROOT / "data" / "course_map.yaml").read_text(encoding="utf-8"))


def numbered_headings_carry_the_documents_titles(chapter):
    titles = {}
    for section in (section for each in course_map()["chapters"] for section in each["sections"]):
        titles.setdefault(str(section["number"]), []).append(re.sub("（.*?）", "", section["zh"]))
    faults = []
    for number, title in re.findall(
        r"(?m)^#{2,} (\d+(?:\.\d+)+) (.+)$", "\n".join(cell.source for cell in chapter.prose)
    ):
        if not number.startswith(f"{chapter.number}."):
            faults.append(f"heading {number} in chapter {chapter.number}")
        elif not any(known in title for known in titles.get(number, [title])):
            faults.append(f"heading {number} {title}: the document says {' or '.join(titles[number])}")
    return faults


def prose_is_short(chapter):
    long = [f"{cell.id} has {words(cell)} words" for cell in chapter.prose if words(cell) > 200]
    paragraphs = [words(cell) for cell in chapter.prose if words(cell) >= 20]
    if chapter.number in COMPLETE and not 60 <= median(paragraphs or [0]) <= 100:
        return [*long, f"the median prose cell has {median(paragraphs or [0])} words, not 60 to 100"]
    return long


def code_cells_are_short(chapter):
    lengths = {cell.id: sum(bool(line.strip()) for line in cell.source.splitlines()) for cell in chapter.code}
    long = [f"{id} has {length} lines" for id, length in lengths.items() if length > 25]
    return long + ([f"the median is {median(lengths.values())} lines"] if median(lengths.values()) > 15 else [])


def is_checked_after(chapter, i):
    """Whether a check passes in what is left of the section that cell `i` is in."""
    rest = takewhile(
        lambda cell: not (cell.cell_type == "markdown" and cell.source.startswith("#")), chapter.cells[i + 1 :]
    )
    return any(passes_checks(cell) for cell in rest if cell.cell_type == "code")


def display_formulas_are_numbered_and_followed_by_a_check(chapter):
    faults = []
    for i, cell in enumerate(chapter.cells):
        formulas = re.findall(r"\$\$(.+?)\$\$", cell.source, flags=re.DOTALL) if cell.cell_type == "markdown" else []
        faults += [
            f"{cell.id}: {formula.strip()[:40]}… has no number" for formula in formulas if r"\tag{" not in formula
        ]
        if formulas and not is_checked_after(chapter, i):
            faults.append(f"{cell.id}: no check follows in its section")
    return faults


def outputs_that_nbval_ignores_are_followed_by_a_check(chapter):
    cells = [
        (i, cell) for i, cell in enumerate(chapter.cells) if "nbval-ignore-output" in cell.metadata.get("tags", [])
    ]
    return [f"{cell.id}: no check follows in its section" for i, cell in cells if not is_checked_after(chapter, i)]


def outputs_name_no_path_of_a_machine(chapter):
    path = rf"{re.escape(str(ROOT))}|{MACHINE_PATH}"
    found = [(cell, re.search(path, text_of(output))) for cell, output in chapter.outputs()]
    return [f"{cell.id}: {match[0]}" for cell, match in found if match]


def code_asks_nothing_of_the_network(chapter):
    found = [(cell, re.search(NETWORK, cell.source)) for cell in chapter.code]
    return [f"{cell.id}: {match[0]}" for cell, match in found if match]


def unnamed_solvers(source):
    """Lines that call torch.linalg.lstsq with its default driver, which reads memory that nobody has cleared: 7.2."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    ours = [node for node in calls if ast.unparse(node.func) == "torch.linalg.lstsq"]
    return [node.lineno for node in ours if not any(word.arg == "driver" for word in node.keywords)]


def least_squares_name_their_driver(chapter):
    return [f"{cell.id}: line {line}" for cell in chapter.code for line in unnamed_solvers(cell.source)]


def pictures_have_alternative_text(chapter):
    faults = []
    for cell, output in chapter.outputs():
        kinds = [kind for kind in output.get("data", {}) if kind.startswith("image/")]
        faults += [f"{cell.id}: {kind}" for kind in kinds if not output.metadata.get(kind, {}).get("alt")]
        tags = re.findall(r"<img\b[^>]*>", output.get("data", {}).get("text/html", ""))
        faults += [f"{cell.id}: {tag[:40]}" for tag in tags if not re.search(r"""alt=["'][^"']""", tag)]
    return faults


def it_is_small(chapter):
    size = chapter.path.stat().st_size
    return [f"{size / 1e6:.1f} MB"] if size > 4e6 else []


def it_checks_something(chapter):
    return [] if any(map(passes_checks, chapter.code)) else ["no line of its outputs begins with ✓"]


OF_NOTEBOOKS = [
    every_cell_was_executed_without_error,
    the_parameters_are_the_three_and_begin_follows,
    ids_are_telling_and_unique,
    code_cells_are_short,
    outputs_name_no_path_of_a_machine,
    code_asks_nothing_of_the_network,
    least_squares_name_their_driver,
    pictures_have_alternative_text,
    it_is_small,
]
OF_CHAPTERS = [
    it_opens_with_title_prerequisites_and_cost,
    numbered_headings_carry_the_documents_titles,
    prose_is_short,
    display_formulas_are_numbered_and_followed_by_a_check,
    outputs_that_nbval_ignores_are_followed_by_a_check,
]
