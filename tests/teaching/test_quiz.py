"""The self-test's answers are recomputed, its file is validated, and what a reader answered is never lost."""

import json
import math

import numpy as np
import pytest
import sympy
import torch
import yaml
from jiwer import wer
from scipy.integrate import quad
from scipy.stats import norm
from torch import nn
from torch.distributions import Bernoulli, Categorical, Normal, kl_divergence

from aigc_lib import paths
from aigc_lib.applications.binaural import delay
from aigc_lib.dissemination.bandits import lai_robbins
from aigc_lib.metrics.images import frechet_distance_of
from aigc_lib.models import stylegan_layers, wavenet
from aigc_lib.models.flownet import end_point_error
from aigc_lib.models.vae import gaussian_kl
from aigc_lib.teaching import quiz
from aigc_lib.teaching.quiz_progress import Progress
from aigc_lib.teaching.quiz_widget import SelfTest
from tests.notebooks.rules import ROOT

QUESTIONS = quiz.load()
NUMERIC = [question for question in QUESTIONS if not question.options]
CHOICE = [question for question in QUESTIONS if question.options]


def named(question_id):
    return next(each for each in QUESTIONS if each.question_id == question_id)


# The truths of the numeric questions ---------------------------------------------------------------------------------


def bits_of_wrong_code():
    return kl_divergence(Bernoulli(probs=0.7), Bernoulli(probs=0.5)).item() / math.log(2)


def half_of_interval():
    a, b = np.full(10_000, 0.0), np.full(10_000, 0.0)
    a[:500], b[:560] = 1, 1
    return 100 * norm.ppf(0.975) * math.sqrt(a.var() / len(a) + b.var() / len(b))


def receptive_field():
    config = wavenet.WaveNetConfig(n_layers=10, n_stacks=3, residual_channels=2, gate_channels=2, skip_channels=2)
    return wavenet.WaveNet(config).receptive_field


def log_determinant():
    s, t = torch.tensor([0.5, -1.2, 0.3]), torch.tensor([4.0, -2.0, 7.0])
    jacobian = torch.autograd.functional.jacobian(lambda x: torch.cat([x[:3], s.exp() * x[3:] + t]), torch.randn(6))
    return torch.linalg.slogdet(jacobian).logabsdet.item()


def best_judge():
    def rightly(x):
        return 50 * max(norm.pdf(x, loc=1), norm.pdf(x))

    return quad(rightly, -10, 0.5)[0] + quad(rightly, 0.5, 11)[0]


def best_answer():
    d = sympy.symbols("d", positive=True)
    (best,) = sympy.solve(sympy.diff(0.3 * sympy.log(d) + 0.1 * sympy.log(1 - d), d), d)
    return float(best)


def game_value():
    """Two distributions on three points whose JSD is 0.2 nats, found by bisection; then the game itself."""

    def pair(share):
        return torch.tensor([1 - share, share, 0], dtype=torch.float64), torch.tensor(
            [1 - share, 0, share], dtype=torch.float64
        )

    def divergence(p, q):
        mixture = Categorical(probs=(p + q) / 2)
        return sum(kl_divergence(Categorical(probs=each), mixture).item() for each in (p, q)) / 2

    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if divergence(*pair(middle)) < 0.2 else (low, middle)
    p, q = pair(low)
    best = p / (p + q)
    return (torch.special.xlogy(p, best) + torch.special.xlogy(q, 1 - best)).sum().item()


def spread_of_scores():
    entries = torch.randn(2, 200_000, 64, generator=torch.Generator().manual_seed(0))
    return entries.prod(dim=0).sum(dim=1).std().item()  # standard error 0.013


def compressed():
    return wavenet.compress(torch.tensor(0.1, dtype=torch.float64), 256).item()


def error_of_unscaled_flow():
    true = torch.tensor([6.0, 8.0])[:, None, None].expand(1, 2, 8, 8)
    half = true[:, :, ::2, ::2] / 2
    enlarged = nn.functional.interpolate(half, scale_factor=2, mode="bilinear", align_corners=True)
    return end_point_error(enlarged, true).item()


def demodulated():
    x = torch.tensor([1.0, 0.0])[None, :, None, None]  # only the first weight acts
    weight, style = torch.tensor([3.0, 4.0])[None, :, None, None], torch.tensor([[2.0, 1.0]])
    return stylegan_layers.modulated_conv2d(x, weight, style).item()


def one_hot_gigabytes():
    sliver = torch.zeros(2, 100, 500, dtype=torch.float32)
    return sliver.element_size() * sliver.numel() * 100_000 / 1e9


def decibels_of_a_sample():
    """Posterior N(0.3, 0.7²): the truth and the sample are both drawn from it."""
    posterior, numbers = Normal(0.3, 0.7), torch.Generator().manual_seed(1)
    truth, drawn = (0.3 + 0.7 * torch.randn(2, 1_000_000, generator=numbers, dtype=torch.float64)).unbind()
    ratio = (drawn - truth).square().mean() / (posterior.mean - truth).square().mean()
    return 10 * math.log10(ratio)  # standard error below 0.01 dB


def between_the_ears():
    near, far = delay(torch.tensor([0.0, math.pi])).tolist()
    return 1e6 * abs(far - near)


def velocity():
    noise, point, t = -1.0, 0.0, 0.25
    data = sympy.symbols("data")
    (data,) = sympy.solve((1 - t) * noise + t * data - point, data)
    return float(data) - noise


def most_found():
    """The best attack on the worst mechanism of this ε and δ: with δ it gives the person away, else it leaks ε."""
    epsilon, delta, accused = 1.0, 1e-5, 0.01
    leak = (1 - delta) * math.exp(epsilon) / (1 + math.exp(epsilon))  # answer "in" of randomised response
    false_alarm = (1 - delta) / (1 + math.exp(epsilon))
    return 100 * (delta + leak * accused / false_alarm)  # "in" is accused as often as 1 % allows


TRUTHS = {
    "1-wrong-code": bits_of_wrong_code,
    "1-lift": half_of_interval,
    "2-receptive-field": receptive_field,
    "2-coupling": log_determinant,
    "3-best-judge": best_judge,
    "3-entropy-rate": lambda: Categorical(probs=torch.tensor([0.7, 0.1, 0.1, 0.1])).entropy().item(),
    "4-optimal-discriminator": best_answer,
    "4-game-value": game_value,
    "4-gaussian-kl": lambda: gaussian_kl(torch.ones(1, 1), torch.full((1, 1), math.log(0.25))).item(),
    "4-attention-spread": spread_of_scores,
    "4-mu-law": compressed,
    "4-upsampled-flow": error_of_unscaled_flow,
    "4-demodulation": demodulated,
    "5-one-hot": one_hot_gigabytes,
    "5-lstm-parameters": lambda: sum(each.numel() for each in nn.LSTM(32, 64).parameters()),
    "6-psnr": lambda: -20 * math.log10(5 / 255),
    "6-posterior-sample": decibels_of_a_sample,
    "6-word-errors": lambda: 100 * wer("the cat sat on the mat", "a cat sat the big mat"),
    "6-between-the-ears": between_the_ears,
    "8-velocity": velocity,
    "8-attacker": most_found,
    "9-price-of-learning": lambda: lai_robbins(torch.tensor([0.6, 0.4])),
}


@pytest.mark.parametrize("question", NUMERIC, ids=lambda question: question.question_id)
def test_every_numeric_answer_is_what_comes_out(question):
    value = TRUTHS[question.question_id]()
    assert quiz.grade(question, value).right
    assert quiz.grade(question, round(value, 2 if abs(value) > 1 else 3)).right  # as a reader would round


# Truths of multiple choice: what the right option says, computed ------------------------------------------------------


def the_bound_misses_by_the_encoders_error():
    """x = z + noise, both N(0, 1): posterior N(x/2, 1/2). The encoder here is N(0, 1), on purpose not that."""
    x, q = torch.tensor(1.3), Normal(torch.tensor(0.0), torch.tensor(1.0))
    log_p = Normal(0.0, math.sqrt(2)).log_prob(x)
    reconstruction = -0.5 * math.log(2 * math.pi) - 0.5 * (x.square() + 1)  # E_q log N(x; z, 1)
    rate = kl_divergence(q, Normal(0.0, 1.0))
    missed = log_p - (reconstruction - rate)
    right = torch.isclose(missed, kl_divergence(q, Normal(x / 2, math.sqrt(0.5))))
    return {0: bool(right), 1: bool(torch.isclose(missed, rate)), 2: bool(torch.isclose(missed, -reconstruction))}


def equal_padding_sees_the_future():
    sound = torch.randn(1, 1, 32, requires_grad=True)
    seen = nn.Conv1d(1, 1, 3, padding=1)(sound)
    seen[0, 0, 10].backward()
    return {1: seen.shape[2] != 32, 2: bool(sound.grad[0, 0, 11:].abs().max() > 0)}


def the_mean_minimises_the_squared_error():
    guesses, motions = torch.linspace(-6, 6, 121), torch.tensor([-4.0, 4.0])
    best = guesses[(guesses[:, None] - motions).square().mean(dim=1).argmin()]
    return {2: abs(best.item()) < 1e-5, 3: False}


def the_distance_grows_with_fewer_samples():
    numbers = torch.Generator().manual_seed(2)
    means = []
    for n in (40, 400):
        distances = [frechet_distance_of(*torch.randn(2, n, 8, generator=numbers)) for _ in range(20)]
        means.append(sum(distances) / len(distances))
    return {0: means[1] == 0, 2: means[0] > 3 * means[1] > 0, 3: means[0] < means[1]}


def whoever_agrees_gains_nothing():
    same, apart = torch.rand(2, 200, 6, generator=torch.Generator().manual_seed(3))
    same[:, 2] = 1.0
    gains = [each.amax(dim=1).mean() / each.mean(dim=0).max() for each in (same, apart)]
    return {0: bool(gains[1] <= 1), 1: bool(torch.isclose(gains[0], torch.tensor(1.0))), 3: bool(gains[1] <= 1)}


def the_number_holds_year_and_month():
    year, month = 2000 + int("1609"[:2]), int("1609"[2:])
    return {0: (year, month) == (2016, 9), 2: year == 1609}


def a_paper_has_the_number_of_its_month():
    printed, submitted = (2018, 2), (2018, 12)
    return {0: len("1802.05933".replace(".", "")) != 9, 1: printed < submitted, 3: printed == submitted}


def a_flow_is_exact_and_quick():
    record = json.loads((ROOT / "data/checkpoints/waveglow-speech.json").read_text("utf-8"))
    gan = json.loads((ROOT / "data/checkpoints/gan-digits.json").read_text("utf-8"))
    return {1: "bits a sample" in record["metrics"], 2: any("bits" in name for name in gan["metrics"])}


def the_right_printed_version_is_no_evidence():
    from aigc_lib.teaching import CheckFailed, refute

    refute("10", "a wrong version fails the check that the right one passes", 2.0, 1.0, within=0.1)
    with pytest.raises(CheckFailed):
        refute("10", "a right version cannot be refuted", 1.0, 1.0, within=0.1)
    return {1: True}


OPTIONS = {
    "2-gap": the_bound_misses_by_the_encoders_error,
    "2-three-wishes": a_flow_is_exact_and_quick,
    "5-sees-the-future": equal_padding_sees_the_future,
    "5-mean-of-motions": the_mean_minimises_the_squared_error,
    "8-few-samples": the_distance_grows_with_fewer_samples,
    "9-no-gain": whoever_agrees_gains_nothing,
    "10-month": the_number_holds_year_and_month,
    "10-impossible-number": a_paper_has_the_number_of_its_month,
    "10-refuted": the_right_printed_version_is_no_evidence,
}


@pytest.mark.parametrize("question_id", OPTIONS)
def test_the_options_are_true_and_false_as_computed(question_id):
    for index, truth in OPTIONS[question_id]().items():
        assert named(question_id).options[index].right == truth, index


def test_flownet_alone_has_no_likelihood_no_noise_and_no_samples():
    import aigc_lib

    assert named("9-which-family").truth.startswith("FlowNet")
    names = ["gan-digits", "vae-digits", "rnn-shakespeare", "transformer-shakespeare"]
    names += ["wavenet-speech", "waveglow-speech", "stylegan-emoji", "flownet-objects"]
    sampling = [name for name in names if {"sample", "generate"} & set(dir(aigc_lib.load(name)))]
    assert set(names) - set(sampling) == {"flownet-objects"}


# The collection -------------------------------------------------------------------------------------------------------


def test_forty_questions_over_ten_chapters_a_dozen_and_more_numeric():
    assert len(QUESTIONS) == 40
    assert len(NUMERIC) >= 12
    assert {question.question_id for question in NUMERIC} == set(TRUTHS)
    chapters = [question.chapter for question in QUESTIONS]
    assert chapters == sorted(chapters)
    assert all(chapters.count(number) >= 3 for number in range(1, 11))


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.question_id)
def test_what_is_asked_is_taught_in_a_cell_of_that_chapter(question):
    name, _, cell = question.taught.partition("#")
    assert int(name[:2]) == question.chapter
    cells = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text("utf-8"))["cells"]
    assert cell in {each["id"] for each in cells}


@pytest.mark.parametrize("question", CHOICE, ids=lambda question: question.question_id)
def test_exactly_the_right_option_is_graded_right_and_every_one_is_explained(question):
    verdicts = [quiz.grade(question, i) for i in range(len(question.options))]
    assert [verdict.right for verdict in verdicts].count(True) == 1
    assert len({verdict.why for verdict in verdicts}) == len(verdicts)


def test_neither_the_longest_option_nor_a_letter_gives_the_answer_away():
    longest = [max(range(len(each.options)), key=lambda i: len(each.options[i].text)) for each in CHOICE]
    assert sum(each.options[i].right for each, i in zip(CHOICE, longest, strict=True)) <= 0.65 * len(CHOICE)
    shown = [quiz.order(each, 0).index([option.right for option in each.options].index(True)) for each in CHOICE]
    assert max(shown.count(place) for place in range(4)) <= len(CHOICE) / 2


@pytest.mark.parametrize("question", NUMERIC, ids=lambda question: question.question_id)
def test_a_number_beyond_the_tolerance_is_wrong(question):
    beyond = 1.5 * question.tolerance * abs(question.value) + 1e-6
    assert not quiz.grade(question, question.value + beyond).right
    assert not quiz.grade(question, question.value - beyond).right


@pytest.mark.parametrize("answer", [-1, 4, 0.5, math.nan])
def test_an_option_that_is_not_there_is_refused(answer):
    with pytest.raises(ValueError, match="options 0 to 3"):
        quiz.grade(named("2-gap"), answer)


def test_a_number_that_is_none_is_refused():
    with pytest.raises(ValueError, match="has to be a number"):
        quiz.grade(named("4-mu-law"), math.nan)


def test_the_order_depends_on_the_seed_alone_and_loses_nothing():
    question = named("2-gap")
    assert quiz.order(question, 5) == quiz.order(question, 5)
    assert len({tuple(quiz.order(question, seed)) for seed in range(50)}) > 5
    assert sorted(quiz.order(question, 5)) == [0, 1, 2, 3]


ENTRY = {
    "id": "4-some-name",
    "taught": "04_mathematics#gan-loss",
    "question": "?",
    "options": [{"text": str(i), "why": f"because {i}", "right": i == 1} for i in range(3)],
}
NUMBER = {
    "id": "4-number",
    "taught": ENTRY["taught"],
    "question": "?",
    "value": 1,
    "tolerance": 0.1,
    "unit": "",
    "why": "so",
}


@pytest.mark.parametrize(
    "content",
    [
        "a: [",
        "text",
        [],
        [ENTRY, ENTRY],
        [ENTRY | {"hint": "x"}],
        [{name: entry for name, entry in ENTRY.items() if name != "taught"}],
        [ENTRY | {"id": "11-too-far"}],
        [ENTRY | {"id": "Four"}],
        [ENTRY | {"taught": "chapter 4"}],
        [ENTRY | {"options": ENTRY["options"][:2]}],
        [ENTRY | {"options": [option | {"right": True} for option in ENTRY["options"]]}],
        [ENTRY | {"options": [option | {"right": False} for option in ENTRY["options"]]}],
        [ENTRY | {"options": [option | {"why": " "} for option in ENTRY["options"]]}],
        [ENTRY | {"options": [option | {"text": "same"} for option in ENTRY["options"]]}],
        [NUMBER | {"value": math.inf}],
        [NUMBER | {"tolerance": 0.7}],
        [NUMBER | {"why": ""}],
    ],
)
def test_a_faulty_file_is_refused(tmp_path, content):
    path = tmp_path / "quiz.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), "utf-8")
    with pytest.raises(ValueError, match=r"quiz\.yaml|question|id "):
        quiz.load(path)


# What a reader answered -----------------------------------------------------------------------------------------------


def test_answers_are_there_again_and_tries_are_counted(tmp_path):
    progress = Progress(tmp_path)
    assert progress.keep("2-gap", 1, False) == ""
    assert progress.keep("2-gap", 0, True) == ""
    again = Progress(tmp_path)
    assert again.right == {"2-gap"}
    assert json.loads((tmp_path / "quiz.json").read_text("utf-8"))["answers"]["2-gap"]["tries"] == 2


def test_reading_writes_nothing_and_the_folder_can_be_moved(tmp_path, monkeypatch):
    monkeypatch.setenv("AIGC_USER_DATA", str(tmp_path / "mine"))
    assert paths.user_data_dir() == tmp_path / "mine"
    SelfTest(QUESTIONS, Progress())
    assert not (tmp_path / "mine").exists()
    Progress().keep("2-gap", 0, True)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["quiz.json"]


@pytest.mark.parametrize(
    "damaged",
    ["", "{", "[1, 2]", '{"format": "other"}', '{"format": "aigc-quiz-progress-1", "answers": {"2-gap": 3}}', "\x00"],
)
def test_a_damaged_or_foreign_file_is_kept_aside(tmp_path, damaged):
    (tmp_path / "quiz.json").write_text(damaged, "utf-8")
    (tmp_path / "quiz.json.bak").write_text("an older one", "utf-8")
    progress = Progress(tmp_path)
    assert "quiz.json.bak1" in progress.trouble
    assert progress.n_answered == 0
    assert (tmp_path / "quiz.json").read_text("utf-8") == damaged  # reading changed nothing
    progress.keep("2-gap", 0, True)
    assert (tmp_path / "quiz.json.bak1").read_text("utf-8") == damaged
    assert (tmp_path / "quiz.json.bak").read_text("utf-8") == "an older one"
    assert Progress(tmp_path).right == {"2-gap"}
    assert progress.trouble == ""


def test_two_windows_do_not_erase_each_others_answers(tmp_path):
    one, other = Progress(tmp_path), Progress(tmp_path)
    one.keep("2-gap", 0, True)
    other.keep("4-mu-law", 0.591, True)
    assert Progress(tmp_path).right == {"2-gap", "4-mu-law"}


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    Progress(tmp_path).keep("2-gap", 0, True)
    before = (tmp_path / "quiz.json").read_text("utf-8")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        Progress(tmp_path).keep("4-mu-law", 0.591, True)
    assert (tmp_path / "quiz.json").read_text("utf-8") == before
    assert [path.name for path in tmp_path.iterdir()] == ["quiz.json"]


def test_a_place_that_cannot_be_written_is_said_and_the_session_goes_on(tmp_path):
    (tmp_path / "file").write_text("", "utf-8")
    progress = Progress(tmp_path / "file")  # a folder is wanted
    assert "not kept" in progress.keep("2-gap", 0, True)
    assert progress.right == {"2-gap"}


# The two ways to be asked ---------------------------------------------------------------------------------------------


def letter_of(question, index, seed=0):
    return quiz.LETTERS[quiz.order(question, seed).index(index)]


def choose(test, question_id):
    test.chooser.value = [each.question_id for each in test.questions].index(question_id)


def test_the_widget_grades_explains_keeps_and_goes_on(tmp_path):
    test = SelfTest(QUESTIONS, Progress(tmp_path))
    choose(test, "2-gap")
    test.check.click()
    assert "Choose an answer first" in test.feedback.value
    test.letter.value = letter_of(test.question, 1)
    test.check.click()
    assert "Not yet" in test.feedback.value
    assert "rate" in test.feedback.value  # why that option is wrong
    test.letter.value = letter_of(test.question, 0)
    test.check.click()
    assert "Right" in test.feedback.value
    assert Progress(tmp_path).right == {"2-gap"}
    assert test.question.question_id == "2-gap"  # marking it does not move the reader
    assert "1 of 40 are right, this one too" in test.status.value
    test.next.click()
    assert test.question.question_id == "3-best-judge"
    test.number.value = 69.2
    test.check.click()
    assert Progress(tmp_path).right == {"2-gap", "3-best-judge"}


def test_a_wrong_number_does_not_give_the_right_one_away(tmp_path):
    test = SelfTest(QUESTIONS, Progress(tmp_path))
    choose(test, "4-mu-law")
    test.number.value = 0.1
    test.check.click()
    assert "Not yet" in test.feedback.value
    assert "log" not in test.feedback.value


def test_only_the_fitting_control_is_shown_and_all_are_labelled(tmp_path):
    test = SelfTest(QUESTIONS, Progress(tmp_path))
    choose(test, "4-mu-law")
    assert (test.letter.layout.display, test.number.layout.display) == ("none", "")
    choose(test, "2-gap")
    assert (test.letter.layout.display, test.number.layout.display) == ("", "none")
    controls = [test.chooser, test.letter, test.number, test.check, test.next]
    assert all(control.description for control in controls)


def test_next_goes_round_the_end_and_stays_when_all_are_right(tmp_path):
    test = SelfTest(QUESTIONS[:3], Progress(tmp_path))
    test.chooser.value = 2
    test.next.click()
    assert test.chooser.value == 0
    for question in QUESTIONS[:3]:
        test.progress.keep(question.question_id, 0, True)
    test.next.click()
    assert test.chooser.value == 0


def test_the_widget_shows_text_as_text_and_formulas_as_formulas(tmp_path):
    test = SelfTest([named("1-lift"), named("4-optimal-discriminator")], Progress(tmp_path))
    assert "<em>one half</em>" in test.body.value
    test.chooser.value = 1
    assert "$x$" in test.body.value


def test_the_terminal_asks_what_is_open_and_understands_letters_commas_and_nonsense(tmp_path):
    progress, said = Progress(tmp_path), []
    questions = [named("2-gap"), named("4-mu-law"), named("1-lift"), named("9-which-family")]
    replies = iter([letter_of(questions[0], 0).lower(), "0,591", "what?", "q"])
    n_right = quiz.ask_in_terminal(questions, progress, ask=lambda _: next(replies), say=said.append)
    assert n_right == 2
    assert progress.right == {"2-gap", "4-mu-law"}
    assert "That is not a number." in said
    assert said[-1] == "2 of 4 are right."
    replies = iter(["", ""])  # two are left
    assert quiz.ask_in_terminal(questions, Progress(tmp_path), ask=lambda _: next(replies), say=said.append) == 2


def test_the_terminal_stops_where_nobody_answers_and_says_what_is_wrong_with_the_file(tmp_path):
    (tmp_path / "quiz.json").write_text("{", "utf-8")

    def nobody(_prompt):
        raise EOFError

    said = []
    assert quiz.ask_in_terminal([named("2-gap")], Progress(tmp_path), ask=nobody, say=said.append) == 0
    assert "is no file of answers" in said[0]
    assert (tmp_path / "quiz.json").read_text("utf-8") == "{"


def test_the_list_of_questions_folds_every_answer_away_and_links_to_what_teaches_it(monkeypatch):
    shown = []
    monkeypatch.setattr(quiz, "display", lambda data, raw: shown.append(data["text/markdown"]))
    quiz.show_list(QUESTIONS)
    (markdown,) = shown
    assert markdown.count("<details><summary>Answer</summary>") == markdown.count("</details>") == len(QUESTIONS)
    before = markdown.split("<details>")[0]
    assert named("1-what-counts").truth not in before
    assert all(f"]({question.link})" in markdown for question in QUESTIONS)
