"""What the capstone's grader reads, and the eleven criteria; `teaching.capstone` puts them together.

A criterion yields parts: points, whether they are earned, and what to say if not. It raises ValueError, or what the
parsers raise, where a file cannot be read; the points that it had not given yet are lost then.
"""

import ast
import json
import re
import shlex
from collections.abc import Callable, Iterator
from functools import cache, cached_property, lru_cache
from itertools import pairwise
from math import isclose, isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from safetensors import safe_open
from torch import Tensor

from aigc_lib import datasets
from aigc_lib.datasets import provenance as data_provenance
from aigc_lib.metrics.images import features, frechet_distance_of, memorisation_test, precision_recall
from aigc_lib.training.checkpoints import digest_of_file
from aigc_lib.trust import provenance

MAX_BYTES = 200_000_000
FEWEST_SAMPLES, MOST_SAMPLES = 64, 2_000
NETWORKS = {"digits": "digit-classifier", "emoji": "efficientnet-lite0", "avatars": "efficientnet-lite0"}
METRICS: dict[str, tuple[Callable[[Tensor, Tensor], float], bool]] = {  # of real and made features; less is better
    "Fréchet distance": (frechet_distance_of, True),
    "precision": (lambda real, made: precision_recall(real, made).precision, False),
    "recall": (lambda real, made: precision_recall(real, made).recall, False),
}
BASELINES = ("mean", "pixels")  # the mean training picture; every pixel from a training picture of its own
SECTIONS = ("Claim", "Data", "Method", "Results", "Failures", "Limits")
UNSAFE = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".joblib", ".npy", ".npz")
TOLERANCE = 0.01  # relative, of a metric that is computed again on another machine
_FLAGGED = 0.02  # share of samples that may count as memorised

Part = tuple[int, bool, str]  # points, whether they are earned, and what to say if not


@cache
def _real_features(name: str) -> Tensor:
    return features(NETWORKS[name], datasets.load(name, "test").images)


@lru_cache(maxsize=4)  # whoever corrects a report grades the same pictures again and again
def _n_memorised(name: str, samples: bytes, shape: tuple[int, ...]) -> int:
    made = torch.frombuffer(bytearray(samples), dtype=torch.float32).view(shape)
    train, held_out = (datasets.load(name, split).images for split in ("train", "test"))
    return memorisation_test(made, train, held_out).n_memorised


class Project:
    """A capstone folder and what has been read of it. Everything raises ValueError that says what to do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    def file(self, name: str) -> Path:
        path = (self.folder / name).resolve()
        if not path.is_relative_to(self.folder) or not path.is_file():
            raise ValueError(f"expected a file {name} inside the folder, found none; put it there")
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(
                f"{name} has {path.stat().st_size:,} bytes, at most {MAX_BYTES:,} are read; make it smaller"
            )
        return path

    def text(self, name: str) -> str:
        try:
            return self.file(name).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{name} is no UTF-8 text ({error.reason}); save it as UTF-8") from error

    def stated(self, *keys: str) -> str | int | float:
        """An entry of capstone.yaml: text or a number."""
        try:
            value = self._plan
            for key in keys:
                value = value[key]
        except (KeyError, TypeError) as error:
            raise ValueError(f"capstone.yaml: expected an entry {'.'.join(keys)}, found none; add it") from error
        if value in ("", "TODO") or not isinstance(value, str | int | float):
            raise ValueError(f"capstone.yaml: expected text or a number for {'.'.join(keys)}; fill it in")
        return value

    @cached_property
    def _plan(self) -> Any:
        text = self.text("capstone.yaml")
        if len(text) > 100_000:
            raise ValueError(f"capstone.yaml: expected at most 100,000 characters, got {len(text):,}; shorten it")
        try:
            return yaml.safe_load(text)
        except (yaml.YAMLError, RecursionError) as error:
            raise ValueError("capstone.yaml is no YAML; `aigc capstone new` makes one to fill in") from error

    @cached_property
    def sample_files(self) -> list[Path]:
        names = sorted(f"samples/{path.name}" for path in (self.folder / "samples").glob("*.png"))[: MOST_SAMPLES + 1]
        if len(names) > MOST_SAMPLES or not names:
            raise ValueError(f"expected 1 to {MOST_SAMPLES:,} PNG files in samples/, found {len(names) or 'none'}")
        return [self.file(name) for name in names]

    @cached_property
    def splits(self) -> tuple[Tensor, Tensor]:
        name = self.stated("data", "name")
        if name not in NETWORKS:
            raise ValueError(f"data.name: the grader knows {', '.join(NETWORKS)}, got {name!r}; choose one of these")
        return datasets.load(name).images, datasets.load(name, "test").images

    @cached_property
    def samples(self) -> Tensor:
        """(N, C, H, W) in [-1, 1], of the training pictures' size."""
        _, channels, height, width = self.splits[0].shape
        mode, size, pixels = {1: "L", 3: "RGB"}[channels], (width, height), []
        for path in self.sample_files:
            try:
                with Image.open(path, formats=["PNG"]) as picture:
                    if (picture.mode, picture.size) != (mode, size):  # before a pixel is decoded
                        raise ValueError(f"it is {picture.mode} {picture.size}, not {mode} {size}")
                    pixels.append(np.array(picture).reshape(height, width, channels))
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                raise ValueError(
                    f"samples/{path.name} is no such picture as the data's: {error}; draw it again"
                ) from error
        return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) / 127.5 - 1

    def measured(self, made: Tensor) -> float:
        compute, _ = METRICS[self.metric]
        name = str(self.stated("data", "name"))
        return compute(_real_features(name), features(NETWORKS[name], made))

    @cached_property
    def value(self) -> float:
        return self.measured(self.samples)

    @property
    def metric(self) -> str:
        name = self.stated("metric", "name")
        if name not in METRICS:
            raise ValueError(f"metric.name: expected one of {', '.join(METRICS)}, got {name!r}")
        return name

    @cached_property
    def baseline(self) -> float:
        kind, train = self.stated("metric", "baseline"), self.splits[0]
        if kind not in BASELINES:
            raise ValueError(f"metric.baseline: expected one of {', '.join(BASELINES)}, got {kind!r}")
        n = len(self.samples)
        if kind == "mean":
            return self.measured(train.mean(dim=0, keepdim=True).expand(n, -1, -1, -1))
        chosen = torch.randint(len(train), (n, *train.shape[1:]), generator=torch.Generator().manual_seed(0))
        return self.measured(train.gather(0, chosen))

    @cached_property
    def n_memorised(self) -> int:
        name = str(self.stated("data", "name"))
        return _n_memorised(name, self.samples.numpy().tobytes(), tuple(self.samples.shape))


def _agrees(project: Project, key: str, found: float) -> tuple[bool, str]:
    said = project.stated("metric", key)
    right = isinstance(said, int | float) and isfinite(said) and isclose(said, found, rel_tol=TOLERANCE, abs_tol=1e-6)
    return right, f"metric.{key}: expected {found:.6g} as recomputed from samples/, got {said!r}; measure it again"


# --- the rubric ------------------------------------------------------------------------------------------------------


def _plan(p: Project) -> Iterator[Part]:
    claim = str(p.stated("claim"))
    yield 3, len(claim.split()) >= 8, f"claim: expected a sentence of at least 8 words, got {claim!r}; say what holds"
    yield 2, bool(re.search(r"\d", claim)), f"claim: expected a number that can turn out wrong, got {claim!r}; add it"


def _data(p: Project) -> Iterator[Part]:
    info = data_provenance.info(p.stated("data", "name"))
    for key, right in (("licence", info.licence), ("digest", info.digest)):
        try:
            said = p.stated("data", key)
        except ValueError:
            said = None  # the other one may be there
        yield 5, said == right, f"data.{key}: expected {right!r}, got {said!r}; see `aigc data list` and datasets.toml"


def _training(p: Project) -> Iterator[Part]:
    command = str(p.stated("training", "command"))
    words = shlex.split(command)
    options = {flag: after for flag, after in pairwise(words) if flag in ("--steps", "--seed")}
    whole = len(options) == 2 and all(value.isdecimal() for value in options.values())
    yield 4, whole, f"training.command: expected --steps N and --seed N in it, got {command!r}; add what is missing"
    log = [json.loads(line) for line in p.text("run/log.jsonl").splitlines()]
    last, steps = log[-1]["step"], int(options["--steps"]) if whole else -1
    yield 3, last == steps, f"run/log.jsonl: expected it to end at step {steps}, it ends at {last}; log the last step"
    name = p.stated("training", "falls")
    curve, third = [line[name] for line in log], max(1, len(log) // 3)
    start, end = np.mean(curve[:third]), np.mean(curve[-third:])
    fell = len(curve) >= 3 and bool(end < start)
    yield 3, fell, f"training: expected {name!r} to fall, its thirds go from {start:.4g} to {end:.4g}; train on"


def _weights(p: Project) -> Iterator[Part]:
    path = p.file("run/last.safetensors")
    with safe_open(path, framework="pt") as file:  # names and shapes; no code can be in it
        there = bool(list(file.keys()))
    unsafe = [str(each.relative_to(p.folder)) for each in p.folder.rglob("*") if each.suffix.lower() in UNSAFE]
    yield (
        5,
        there and not unsafe,
        f"weights: expected safetensors alone, got {unsafe or 'none'}; loading others runs code",
    )
    said, found = p.stated("model", "sha256"), digest_of_file(path)
    yield 5, said == found, f"model.sha256: expected {found}, that of run/last.safetensors, got {said!r}; state it"


def _metric(p: Project) -> Iterator[Part]:
    n = len(p.samples)
    yield 5, n >= FEWEST_SAMPLES, f"samples/: expected at least {FEWEST_SAMPLES} pictures, got {n}; draw more"
    yield 10, *_agrees(p, "value", p.value)


def _baseline(p: Project) -> Iterator[Part]:
    yield 5, *_agrees(p, "baseline_value", p.baseline)
    ours, less_is_better = p.value, METRICS[p.metric][1]
    better = ours < p.baseline if less_is_better else ours > p.baseline
    yield (
        5,
        better,
        f"baseline: expected better than {p.baseline:.6g}, got {ours:.6g}; train on, or choose a harder task",
    )


def _derivation(p: Project) -> Iterator[Part]:
    code = [each for each in json.loads(p.text("notebook.ipynb"))["cells"] if each["cell_type"] == "code"]
    sources = ["".join(each["source"]) for each in code]
    errors = sum(out["output_type"] == "error" for each in code for out in each["outputs"])
    idle = sum(not each["execution_count"] for each, source in zip(code, sources, strict=True) if source.strip())
    clean = bool(code) and not errors and not idle
    yield 3, clean, f"notebook: expected all cells executed, got {errors} errors and {idle} not executed; run all again"
    lines = "\n".join("".join(out.get("text", "")) for each in code for out in each["outputs"]).splitlines()
    for points, mark, prefix, least in ((4, "✓", "check", 3), (3, "✗ refuted", "refute", 1)):
        n = sum(line.startswith(mark) for line in lines)
        calls = sum(_calls(source, prefix) for source in sources)
        said = f"notebook: expected at least {least} line(s) {mark} printed by calls of {prefix}…, got {n} and {calls}"
        yield points, n >= least and calls > 0, f"{said}; derive something and let it be able to fail"


def _calls(source: str, prefix: str) -> int:
    """How many calls of functions whose name begins so are in the source; it is parsed and not run."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return 0
    called = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return sum(getattr(each, "id", getattr(each, "attr", "")).startswith(prefix) for each in called)


def _memorisation(p: Project) -> Iterator[Part]:
    said, found, most = p.stated("metric", "memorised"), p.n_memorised, int(_FLAGGED * len(p.samples))
    yield 5, said == found, f"metric.memorised: expected {found} samples, in pixels, got {said!r}; test it again"
    yield 5, found <= most, f"memorisation: expected at most {most} copies of training pictures, got {found}; see 3.1.1"


def _labels(p: Project) -> Iterator[Part]:
    digest, faults = digest_of_file(p.file("run/last.safetensors")), []
    for path in p.sample_files:
        found = provenance.read(path)
        kind, named = found.source_type == "trainedAlgorithmicMedia", digest in found.ingredients.values()
        if found.state != "valid" or not (kind and named):
            faults.append(f"{path.name}: {found.state if found.state != 'valid' else 'names another model'}")
    first = f"{len(faults)} of {len(p.sample_files)} samples, first {faults[:1]}; sign them with trust.provenance.sign"
    yield 5, len(faults) <= 0.1 * len(p.sample_files), f"labels: expected nine in ten valid, not so {first}"
    yield 5, not faults, f"labels: expected every sample to carry valid credentials of this model, not so {first}"


def _failures(p: Project) -> Iterator[Part]:
    text = _sections(p).get("Failures", "")
    n, named = len(text.split()), re.findall(r"failures/[\w.-]+\.png", text)
    yield 3, n >= 40, f"report.md, Failures: expected at least 40 words, got {n}; say what did not work, and why"
    there = [name for name in named if (p.folder / name).is_file()]
    yield 2, bool(there), "report.md, Failures: expected the name of a picture in failures/ that is there; show one"


def _report(p: Project) -> Iterator[Part]:
    missing = [name for name in SECTIONS if not _sections(p).get(name, "").strip()]
    yield 3, not missing, f"report.md: expected the sections {', '.join(SECTIONS)}, missing {', '.join(missing)}"
    n = len(p.text("report.md").split())
    yield 2, 200 <= n <= 1500, f"report.md: expected 200 to 1,500 words, got {n}"


def _sections(p: Project) -> dict[str, str]:
    parts = re.split(r"(?m)^## +(.+?) *$", p.text("report.md"))[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


RUBRIC: dict[str, tuple[int, Callable[[Project], Iterator[Part]]]] = {
    "claim": (5, _plan),
    "data": (10, _data),
    "training": (10, _training),
    "weights": (10, _weights),
    "metric": (15, _metric),
    "baseline": (10, _baseline),
    "derivation": (10, _derivation),
    "memorisation": (10, _memorisation),
    "labels": (10, _labels),
    "failures": (5, _failures),
    "report": (5, _report),
}
