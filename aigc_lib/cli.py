"""The command `aigc`: train, sample, evaluate, make, label, verify, data, course, quiz, capstone, gpu-check.

    aigc train gan --profile laptop         python -m aigc_lib.cli …         torchrun … -m aigc_lib.cli train gan

Exit codes: 0 done, 1 it ran and something is wrong (a chapter failed), 2 a mistake in what was asked, 130 stopped.
The library is imported inside the commands, so that `aigc --help` answers at once.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from aigc_lib import cli_make
from aigc_lib.cli_make import positive

PROFILES = ("smoke", "laptop", "gpu")
DATA_COLUMNS = ("name", "modality", "train", "validation", "test", "installed", "licence", "packages")


def train(arguments: argparse.Namespace) -> int:
    from aigc_lib import training

    name = training.full_name(arguments.recipe)
    result = training.train(
        name,
        profile=arguments.profile,
        device=arguments.device,
        seed=arguments.seed,
        steps=arguments.steps,
        out=arguments.out or Path("runs") / f"{name}-{arguments.profile}",
        resume=not arguments.fresh,
    )
    if os.environ.get("RANK", "0") == "0":  # torchrun starts several of us; one speaks
        losses = {key: value for key, value in result.history[-1].items() if key != "step"} if result.history else {}
        print(f"{name}: {result.step} steps", *(f"{key} {value:.4g}" for key, value in losses.items()), sep="  ")
        print(f"checkpoint: {result.checkpoint}")
        if arguments.ship:
            from aigc_lib.training.publish import publish

            command = (
                f"aigc train {name} --profile {arguments.profile} --steps {result.step} --seed {arguments.seed} --ship"
            )
            print(f"shipped: {publish(result, command=command)}")
    return 0


def sample(arguments: argparse.Namespace) -> int:
    from aigc_lib import training
    from aigc_lib.training import recipes
    from aigc_lib.trust.exports import exported

    name = training.full_name(arguments.name)
    out = arguments.out or Path(f"{name}{recipes.resolve(name).samples_suffix}")
    made = {"command": f"aigc sample {name} --n {arguments.n} --seed {arguments.seed}", "seed": arguments.seed}
    with exported(out, networks=[name], parameters=made) as file:
        training.sample(name, n=arguments.n, out=file, seed=arguments.seed, device=arguments.device)
    print(out)
    return 0


def evaluate(arguments: argparse.Namespace) -> int:
    from aigc_lib import training

    if arguments.name == "vocoders":
        from aigc_lib.training.vocoders import compare

        rows = compare(n=arguments.n, seed=arguments.seed, device=arguments.device)
        print(table([list(rows[0]), *(list(row.values()) for row in rows)]))
        return 0
    metrics = training.evaluate(arguments.name, n=arguments.n, seed=arguments.seed, device=arguments.device)
    print(table([[metric, f"{value:.4g}"] for metric, value in metrics.items()]))
    return 0


def label(arguments: argparse.Namespace) -> int:
    from aigc_lib.trust import labelling, labels

    text = labels.LABEL if arguments.text is None else arguments.text
    number = labelling.label_file(arguments.file, arguments.out, text=text, mark=not arguments.no_mark)
    print(f"{arguments.out}: labelled{'' if arguments.no_mark else ', marked'} and signed as number {number:08x}")
    return 0


def verify(arguments: argparse.Namespace) -> int:
    from aigc_lib.trust import exports

    verdict = exports.verify(arguments.file)
    print(f"{arguments.file}: {verdict.text}")
    found = verdict.credentials
    rows = [[name, str(value)] for name, value in vars(found).items() if value and name not in ("state", "ingredients")]
    rows += [["made with", f"{name} {what}"] for name, what in found.ingredients.items()]
    if verdict.mark.found:
        number = "unreadable" if verdict.mark.payload is None else f"{verdict.mark.payload:08x}"
        rows += [["mark", number], ["by chance", f"less than {verdict.mark.chance:.0e}"]]
    print(table([*rows, ["which proves", exports.MEANING[verdict.text]]]))
    return 0 if verdict.verified else 1


def data_list(arguments: argparse.Namespace) -> int:
    from aigc_lib.datasets import provenance

    rows = [row for row in provenance.rows() if row["name"] in (arguments.names or [row["name"]])]
    for name in arguments.names:
        provenance.info(name)  # an unknown one is an error that lists the known
    print(table([DATA_COLUMNS, *([row[column] for column in DATA_COLUMNS] for row in rows)]))
    return 0


def data_check(arguments: argparse.Namespace) -> int:
    from aigc_lib.datasets import provenance

    for name in arguments.names or ["all"]:
        for found in provenance.check(name):
            print(f"✓ {found.name}: {found.n_files} files, sha256 {found.digest[:12]}…", *found.notes, sep="; ")
    return 0


def data_prepare(arguments: argparse.Namespace) -> int:
    from aigc_lib import datasets

    datasets.prepare(arguments.names or None)
    return 0


def course_run(arguments: argparse.Namespace) -> int:
    from aigc_lib.teaching import course

    report = course.run(
        arguments.chapters,
        profile=arguments.profile,
        seed=arguments.seed,
        device=arguments.device,
        out=arguments.out,
        fresh=arguments.fresh,
        jobs=arguments.jobs,
        notebooks=arguments.notebooks,
    )
    print(f"report: {arguments.out / 'report.html'}")
    print(f"{report.n_passed} passed, {report.n_failed} failed")
    return 1 if report.n_failed else 0


def course_list(arguments: argparse.Namespace) -> int:
    from aigc_lib.teaching import course

    print(table([[chapter.path.name, chapter.title] for chapter in course.chapters(arguments.notebooks)]))
    return 0


def course_coverage(arguments: argparse.Namespace) -> int:
    from aigc_lib.teaching import course_map

    print(course_map.coverage_report())
    return 0


def quiz(arguments: argparse.Namespace) -> int:
    from aigc_lib.teaching import quiz as self_test
    from aigc_lib.teaching.quiz_progress import Progress

    questions = [each for each in self_test.load() if arguments.chapter in (None, each.chapter)]
    self_test.ask_in_terminal(questions, Progress(arguments.folder), seed=arguments.seed)
    return 0


def capstone_new(arguments: argparse.Namespace) -> int:
    from aigc_lib.teaching import capstone

    print(*capstone.new(arguments.folder), sep="\n")
    return 0


def capstone_grade(arguments: argparse.Namespace) -> int:
    from aigc_lib.teaching import capstone

    result = capstone.grade(arguments.folder)
    print(result)
    return 0 if result.points == sum(each.of for each in result.results) else 1


def gpu_check(arguments: argparse.Namespace) -> int:
    from aigc_lib.training import gpu_check as check

    return check.main()


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest text."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(prog="aigc", description="Train and use the course's models; run the course.")
    root.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = root.add_subparsers(required=True, metavar="command", title="commands")

    placed = argparse.ArgumentParser(add_help=False)
    placed.add_argument("--device", default="auto", help="auto (CUDA, then MPS, then CPU), cpu, cuda, cuda:1, mps")
    seeded = argparse.ArgumentParser(add_help=False, parents=[placed])
    seeded.add_argument("--seed", type=int, default=0, help="of everything random (0)")
    profiled = argparse.ArgumentParser(add_help=False, parents=[seeded])
    profiled.add_argument("--profile", choices=PROFILES, default="laptop", help="the budget (laptop)")

    def command(group: argparse._SubParsersAction, name: str, run, text: str, *parents: argparse.ArgumentParser):
        made = group.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", parents=parents)
        made.set_defaults(run=run)
        return made

    made = command(commands, "train", train, "train a model; the same command again goes on where it stopped", profiled)
    made.add_argument("recipe", help="such as gan-digits; gan means that")
    made.add_argument("--steps", type=positive, help="in all (the profile's)")
    made.add_argument("--out", type=Path, help="folder of the run (runs/RECIPE-PROFILE)")
    made.add_argument("--fresh", action="store_true", help="begin again, even if the folder holds a run")
    made.add_argument("--ship", action="store_true", help="evaluate the result and put it into data/checkpoints")

    made = command(commands, "sample", sample, "draw from a trained model", seeded)
    made.add_argument("name", help="of the checkpoint, such as gan-digits; gan means that")
    made.add_argument("--n", type=positive, default=64, help="how many (64)")
    made.add_argument("--out", type=Path, help="file to write (NAME.png, for texts NAME.txt)")

    made = command(commands, "evaluate", evaluate, "measure a trained model against held-out data", seeded)
    made.add_argument("name", help="of the checkpoint, such as gan-digits; gan means that; vocoders compares all three")
    made.add_argument("--n", type=positive, default=1000, help="samples to draw (1000)")

    make = command(commands, "make", None, "films, music, sounds and captions by trained networks").add_subparsers(
        required=True, metavar="command"
    )
    cli_make.add_commands(make, command, placed, seeded)

    made = command(commands, "label", label, "label, mark and sign a generated .png or .wav file")
    made.add_argument("file", type=Path, help="picture or sound")
    made.add_argument("--out", type=Path, required=True, help="file to write, with the same ending")
    made.add_argument("--text", help="what a picture says (AI 生成 / AI-generated)")
    made.add_argument("--no-mark", action="store_true", help="for what is too small, short or flat to carry a mark")

    made = command(commands, "verify", verify, "say whether a file is as it was signed, and how it was made")
    made.add_argument("file", type=Path, help="picture, sound, film, or a file with its .c2pa beside it")

    data = command(commands, "data", None, "the data sets").add_subparsers(required=True, metavar="command")
    for name, run, text in [
        ("list", data_list, "show what there is, from where, under which licence"),
        ("check", data_check, "recompute the digests and compare them with data/datasets.toml"),
        ("prepare", data_prepare, "make and cache what takes longer than a moment"),
    ]:
        command(data, name, run, text).add_argument("names", nargs="*", metavar="NAME", help="data sets (all)")

    course = command(commands, "course", None, "the ten chapters").add_subparsers(required=True, metavar="command")
    made = command(
        course, "run", course_run, "execute chapters and write a report; what is done is not repeated", profiled
    )
    made.add_argument("chapters", nargs="*", metavar="CHAPTER", help="such as 2 or 02_core_concepts (all)")
    made.add_argument("--out", type=Path, default=Path("build/course"), help="folder to write to (build/course)")
    made.add_argument("--fresh", action="store_true", help="execute again what is done")
    made.add_argument("--jobs", type=positive, default=2, help="chapters at a time; they share the cores (2)")
    made.add_argument("--notebooks", type=Path, help="folder of the chapters (the repository's notebooks/)")
    made = command(course, "list", course_list, "show the chapters")
    made.add_argument("--notebooks", type=Path, help="folder of the chapters (the repository's notebooks/)")
    command(
        course, "coverage", course_coverage, "show which items of the source document are taught, and which not yet"
    )

    made = command(commands, "quiz", quiz, "ask what is not answered rightly yet of the self-test")
    made.add_argument("--chapter", type=int, choices=range(1, 11), metavar="N", help="only this one (all)")
    made.add_argument("--folder", type=Path, help="where answers are kept (the user's data folder)")
    made.add_argument("--seed", type=int, default=0, help="of the options' order (0)")

    project = command(commands, "capstone", None, "one's own project").add_subparsers(required=True, metavar="command")
    for name, run, text in [
        ("new", capstone_new, "begin a capstone folder"),
        ("grade", capstone_grade, "judge a capstone folder by the rubric; nothing in it is executed"),
    ]:
        command(project, name, run, text).add_argument("folder", type=Path)

    command(commands, "gpu-check", gpu_check, "run the GPU's tests and every recipe on it, beside the CPU")
    return root


def says_what_to_do(error: Exception) -> bool:
    """Whether the text of an error is meant for the reader. Only modules that were imported can have raised theirs."""
    ours = [("aigc_lib.training.checkpoints", "CheckpointError"), ("aigc_lib.training.engine", "TrainingDiverged")]
    known = tuple(getattr(sys.modules[module], name) for module, name in ours if module in sys.modules)
    return isinstance(error, (ValueError, OSError, ImportError, *known))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        return options.run(options)
    except KeyboardInterrupt:
        print("aigc: stopped", file=sys.stderr)
        return 130
    except Exception as error:
        if options.debug or not says_what_to_do(error):
            raise
        print(f"aigc: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
