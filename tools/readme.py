"""Write what README.md takes from elsewhere: chapters from the report of a run, models from the records of the
checkpoints, a passage from the gallery.

    .venv/bin/python tools/readme.py [--report build/course/report.json]

Without a report the chapters' table keeps the minutes it has. A test compares the models' table with the records.
"""

import argparse
import json
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def between(text: str, name: str) -> str:
    """What stands between the two markers of a name."""
    return re.search(rf"<!-- {name}:begin -->\n(.*?)<!-- {name}:end -->", text, re.DOTALL)[1]


def models_table() -> str:
    """One line a shipped checkpoint."""
    lines = [
        "| model | parameters | steps, minutes, device | metrics on held-out data | command |",
        "| --- | --- | --- | --- | --- |",
    ]
    for path in sorted((ROOT / "data" / "checkpoints").glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        metrics = "; ".join(f"{name} {value:g}" for name, value in record["metrics"].items())
        sizes = ", ".join(f"{part} {n:,}" for part, n in record["n_parameters"].items())
        how = f"{record['steps']:,}, {record['minutes']:g}, {record['device']}"
        lines.append(f"| {record['recipe']} | {sizes} | {how} | {metrics} | `{record['command']}` |")
    return "\n".join(lines) + "\n"


def passage() -> str:
    """The first of the passages in the gallery, as a block."""
    passages = (ROOT / "data" / "gallery" / "transformer-shakespeare.txt").read_text(encoding="utf-8")
    return "```\n" + passages.split("\n\n----\n\n")[0].strip("\n") + "\n```\n"


def chapters_table(report: Path) -> str:
    """One line a chapter, with its measured minutes and peak memory."""
    content = json.loads(report.read_text(encoding="utf-8"))
    lines = ["| chapter | minutes | memory | checks |", "| --- | --- | --- | --- |"]
    for result in content["results"]:
        notebook = ROOT / "notebooks" / f"{result['chapter']}.ipynb"
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        title = "".join(cells[0]["source"]).splitlines()[0].removeprefix("# ")
        memory = f"{result['peak_memory_gb']:.1f} GB"
        lines.append(
            f"| [{title}](notebooks/{notebook.name}) | {result['minutes']:.1f} | {memory} | {result['checks']} |"
        )
    where, minutes = content["device"], content["minutes"]
    lines.append(f"\nMeasured in the `{content['profile']}` profile on {where}: {minutes:.1f} minutes in all.")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--report", type=Path, help="report.json of `aigc course run`")
    arguments = parser.parse_args()
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    tables = {"models": models_table(), "passage": passage()}
    if arguments.report:
        tables["chapters"] = chapters_table(arguments.report)
    for name, table in tables.items():
        text = text.replace(f"<!-- {name}:begin -->\n{between(text, name)}", f"<!-- {name}:begin -->\n{table}")
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
