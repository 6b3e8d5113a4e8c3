"""What the README says is what the records and the course say."""

import importlib.util
import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
SPEC = importlib.util.spec_from_file_location("readme", ROOT / "tools" / "readme.py")
readme = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(readme)


def test_the_table_of_models_is_that_of_the_records():
    assert readme.between(TEXT, "models") == readme.models_table()


def test_the_passage_is_the_first_of_the_gallery():
    assert readme.between(TEXT, "passage") == readme.passage()


def test_all_ten_chapters_are_listed_with_their_titles_and_minutes():
    rows = re.findall(r"^\| \[(\d+) · .+\]\(notebooks/(\S+)\) \| [\d.]+ \|", readme.between(TEXT, "chapters"), re.M)
    assert [int(number) for number, _ in rows] == list(range(1, 11))
    assert all((ROOT / "notebooks" / name).is_file() for _, name in rows)


def test_every_link_into_the_repository_leads_somewhere():
    targets = [t for t in re.findall(r"\]\(([^)#]+)\)", TEXT) if not t.startswith("http")]
    assert targets
    assert [t for t in targets if not (ROOT / t).exists()] == []


def test_every_make_target_that_is_named_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"(?<!aigc )make ([a-z-]+)", TEXT))
    assert {"course", "test", "lab"} <= named
    assert [t for t in named if not re.search(rf"^{t}:", makefile, re.M)] == []


def test_every_command_that_is_shown_is_understood():
    from aigc_lib.cli import parser

    shown = re.findall(r"^aigc ([^#\n]+)", TEXT, re.M)
    assert len(shown) >= 4
    for command in shown:
        assert parser().parse_args(shlex.split(command))
