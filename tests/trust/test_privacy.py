"""Attacks measure what they say, private training keeps its promise, and the audit catches what breaks it."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus import GradSampleModule
from opacus.accountants import PRVAccountant, RDPAccountant
from opacus.optimizers import DPOptimizer
from scipy import integrate, stats

from aigc_lib.models.ngram import NGramModel
from aigc_lib.trust.privacy import (
    Budget,
    auc_bound,
    audit,
    exposure,
    fit,
    found_at,
    gaussian_delta,
    gaussian_sigma,
    membership_roc,
    roc_band,
)

# torch remarks that tokens, which come first, have no gradient
pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook")

BUDGET = Budget(epsilon=1.0, delta=1e-5)


def numbers(seed=0):
    return torch.Generator().manual_seed(seed)


def normals(*shape, seed=0):
    return torch.randn(*shape, generator=numbers(seed), dtype=torch.float64)


def small_model(seed=0, vocab_size=11):
    torch.manual_seed(seed)
    return NGramModel(vocab_size, context=3, width=4, hidden=32)


def small_records(n, length=12, seed=0):
    return torch.randint(11, (n, length), generator=numbers(seed))


# Membership ----------------------------------------------------------------------------------------------------------

few_values = st.lists(st.integers(0, 6), min_size=2, max_size=25)


@settings(deadline=None)
@given(few_values, few_values)
def test_auc_is_that_of_mann_and_whitney_with_ties_and_the_area_under_the_curve(a, b):
    roc = membership_roc(torch.tensor(a), torch.tensor(b))
    assert roc.auc == pytest.approx(stats.mannwhitneyu(a, b).statistic / len(a) / len(b))
    assert np.trapezoid(roc.true_positive_rate, roc.false_positive_rate) == pytest.approx(roc.auc)
    assert (roc.false_positive_rate[[0, -1]] == [0, 1]).all()
    assert (roc.true_positive_rate[[0, -1]] == [0, 1]).all()
    assert 0 <= roc.low <= roc.auc <= roc.high <= 1


def test_the_interval_has_the_standard_error_of_delong_by_brute_force():
    a, b = normals(30) + 0.5, normals(40, seed=1)
    wins = (a[:, None] > b).double()  # (30, 40)
    variance = wins.mean(dim=1).var() / 30 + wins.mean(dim=0).var() / 40
    roc = membership_roc(a, b)
    assert roc.high - roc.auc == pytest.approx(1.959964 * variance.sqrt().item())


def test_the_interval_covers_the_true_auc_about_as_often_as_it_says():
    truth = stats.norm.cdf(1 / math.sqrt(2))
    draws = normals(400, 2, 60)
    rocs = [membership_roc(a + 1, b) for a, b in draws]
    covered = np.mean([roc.low <= truth <= roc.high for roc in rocs])
    assert covered == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / 400))


def test_samples_that_do_not_overlap_still_leave_a_doubt():
    roc = membership_roc(torch.arange(5.0) + 10, torch.arange(8.0))
    assert roc.auc == 1
    assert roc.low == pytest.approx(stats.beta.ppf(0.025, 5, 1))  # Clopper–Pearson, five of five
    assert membership_roc(torch.arange(8.0), torch.arange(5.0) + 10).high == pytest.approx(1 - 0.025**0.2)


def test_found_at_never_allows_more_false_alarms_than_asked_for():
    a, b = normals(500) + 1, normals(300, seed=1)
    for rate in (0, 0.01, 0.1, 0.5):
        threshold = b.sort(descending=True).values[int(rate * 300)]
        assert (b > threshold).double().mean() <= rate
        assert found_at(rate, a, b) == (a > threshold).double().mean()
    assert found_at(0.0, torch.ones(3), torch.ones(4)) == 0  # a tie finds nobody


def test_the_bootstrap_band_holds_the_true_curve_at_most_points():
    rates = np.array([0.01, 0.05, 0.2, 0.5])
    low, high = roc_band(rates, normals(2000) + 1, normals(2000, seed=1), generator=numbers())
    truth = stats.norm.sf(stats.norm.isf(rates) - 1)
    assert (low < truth).all()
    assert (truth < high).all()
    assert (high - low < 0.15).all()


@pytest.mark.parametrize("scores", [torch.zeros(0), torch.zeros(1), torch.zeros(3, 1), torch.tensor([0, math.nan])])
def test_attacks_need_finite_scores_of_both(scores):
    for attack in (membership_roc, lambda a, b: found_at(0.1, a, b), lambda a, b: audit(a, b, delta=0)):
        with pytest.raises(ValueError, match="at least two finite scores"):
            attack(scores, torch.rand(30))
        with pytest.raises(ValueError, match="at least two finite scores"):
            attack(torch.rand(30), scores)


# Exposure ------------------------------------------------------------------------------------------------------------


def test_exposure_counts_how_often_the_candidates_can_be_halved_before_the_secret_is_left():
    nats = torch.arange(16.0).flip(0).expand(3, -1)  # candidate 15 is the most probable
    assert exposure(nats, torch.tensor([15, 12, 0])).tolist() == [4, 2, 0]


def test_a_model_that_cannot_tell_candidates_apart_exposes_nothing():
    assert exposure(torch.zeros(1, 1000), torch.tensor([7])).item() == 0


@pytest.mark.parametrize(
    ("nats", "secrets"),
    [
        (torch.zeros(2, 0), torch.tensor([0, 0])),
        (torch.zeros(2, 5), torch.tensor([0])),
        (torch.zeros(1, 5), torch.tensor([5])),
        (torch.zeros(1, 5), torch.tensor([-1])),
        (torch.zeros(1, 5), torch.tensor([1.0])),
        (torch.full((1, 5), math.nan), torch.tensor([1])),
    ],
)
def test_exposure_needs_candidates_and_a_secret_among_them(nats, secrets):
    with pytest.raises(ValueError, match="expected"):
        exposure(nats, secrets)


# The model -----------------------------------------------------------------------------------------------------------


def test_secrets_are_scored_as_the_whole_record_is():
    model, prefix, digits = small_model(), torch.tensor([3, 1, 4, 1]), torch.tensor([2, 5, 7])
    scored = model.nats_of_secrets(prefix, digits, 2).reshape(3, 3)
    for i, first in enumerate(digits):
        for j, second in enumerate(digits):
            whole = torch.cat([prefix, first[None], second[None]])[None]
            assert scored[i, j].item() == pytest.approx((model.nats(whole) - model.nats(prefix[None])).item(), abs=1e-5)


def test_probabilities_of_all_records_add_up_to_one():
    model = small_model(vocab_size=3)
    every = torch.cartesian_prod(*[torch.arange(3)] * 4)
    assert (-model.nats(every)).exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_a_token_sees_only_its_context():
    model, tokens = small_model(), small_records(1)
    other = tokens.clone()
    other[0, 4] = (other[0, 4] + 1) % 11
    same = [t for t in range(13) if torch.equal(model(tokens)[0, t], model(other)[0, t])]
    assert same == [t for t in range(13) if not 5 <= t <= 7]


@pytest.mark.parametrize(
    "tokens", [torch.zeros(3, 0).long(), torch.zeros(3, 4), torch.zeros(4).long(), torch.full((1, 2), 11)]
)
def test_records_are_integers_of_the_vocabulary(tokens):
    with pytest.raises(ValueError, match="expected"):
        small_model()(tokens)


def test_models_and_secrets_have_sizes():
    with pytest.raises(ValueError, match="at least 1"):
        NGramModel(0)
    with pytest.raises(ValueError, match="expected a prefix"):
        small_model().nats_of_secrets(torch.tensor([1]), torch.tensor([2]), 0)


# Budgets and the Gaussian mechanism ----------------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [0.0, -1.0, math.inf, math.nan, 101.0])
def test_a_budget_that_promises_nothing_is_refused(epsilon):
    with pytest.raises(ValueError, match="not private"):
        Budget(epsilon=epsilon, delta=1e-5)


@pytest.mark.parametrize("delta", [0.0, 1.0, -0.1, math.nan])
def test_delta_is_a_probability_between_none_and_certain(delta):
    with pytest.raises(ValueError, match="not private"):
        Budget(epsilon=1.0, delta=delta)


@settings(deadline=None)
@given(st.floats(0.01, 8), st.floats(0.2, 20), st.floats(0.1, 5))
def test_delta_is_the_mass_beyond_e_to_the_epsilon_by_quadrature(epsilon, sigma, sensitivity):
    def excess(x):
        return max(stats.norm.pdf(x, sensitivity, sigma) - math.exp(epsilon) * stats.norm.pdf(x, 0, sigma), 0)

    start = epsilon * sigma**2 / sensitivity + sensitivity / 2  # where the densities' ratio is e^ε
    area, _ = integrate.quad(excess, start, max(start, sensitivity) + 12 * sigma, limit=200)
    assert gaussian_delta(epsilon, sigma, sensitivity) == pytest.approx(area, abs=1e-7)


@settings(deadline=None)
@given(st.floats(0.01, 100), st.floats(-7, -0.5), st.floats(0.01, 100))
def test_the_least_noise_just_keeps_the_budget(epsilon, log_delta, sensitivity):
    budget = Budget(epsilon=epsilon, delta=10**log_delta)
    sigma = gaussian_sigma(budget, sensitivity)
    assert gaussian_delta(epsilon, sigma, sensitivity) == pytest.approx(budget.delta, rel=1e-4)
    assert gaussian_delta(epsilon, sigma * 0.99, sensitivity) > budget.delta


def test_no_noise_is_not_private():
    for sigma, sensitivity in ((0.0, 1.0), (-1.0, 1.0), (math.inf, 1.0), (1.0, 0.0), (math.nan, 1.0)):
        with pytest.raises(ValueError, match="noise and sensitivity > 0"):
            gaussian_delta(1.0, sigma, sensitivity)
    with pytest.raises(ValueError, match="sensitivity > 0"):
        gaussian_sigma(BUDGET, 0.0)


@settings(deadline=None)
@given(st.floats(0.01, 20), st.floats(1e-6, 0.5))
def test_the_bound_of_the_auc_is_the_area_under_what_the_definition_allows(epsilon, delta):
    def allowed(f):
        return min(math.exp(epsilon) * f + delta, 1 - math.exp(-epsilon) * (1 - delta - f), 1)

    corner = (1 - delta) / (1 + math.exp(epsilon))
    area = sum(integrate.quad(allowed, *ends)[0] for ends in ((0, corner), (corner, 1 - delta), (1 - delta, 1)))
    assert auc_bound(Budget(epsilon=epsilon, delta=delta)) == pytest.approx(area, abs=1e-6)


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 5.0])
def test_the_gaussian_mechanism_obeys_the_bound(epsilon):
    budget = Budget(epsilon=epsilon, delta=1e-5)
    mu = 1 / gaussian_sigma(budget)
    assert 0.5 < stats.norm.cdf(mu / math.sqrt(2)) < auc_bound(budget)


@pytest.mark.filterwarnings("ignore:Optimal order", "ignore:divide by zero")
@pytest.mark.parametrize(("sigma", "n_steps"), [(1.0, 1), (5.0, 25), (20.0, 100)])
def test_opacus_counts_full_batches_as_one_gaussian_release(sigma, n_steps):
    """Composition of T releases with noise σ is one with noise σ/√T, whose δ is known in closed form.

    The PRV accountant states an upper bound of ε that errs by twice its `eps_error` of 0.01 at most.
    """
    tight, loose = PRVAccountant(), RDPAccountant()
    tight.history = loose.history = [(sigma, 1.0, n_steps)]
    epsilon, exact = tight.get_epsilon(1e-5), sigma / math.sqrt(n_steps)
    assert gaussian_delta(epsilon, exact) <= 1e-5 <= gaussian_delta(epsilon - 0.02, exact)
    assert epsilon < loose.get_epsilon(1e-5) < 1.1 * epsilon


# Private training ----------------------------------------------------------------------------------------------------


def released(batch, *, clip, noise, n_runs, seed):
    """First entry of what one step of Opacus hands to the optimiser; the gradient of a record is the record."""
    layer = GradSampleModule(torch.nn.Linear(batch.shape[1], 1, bias=False), loss_reduction="sum")
    options = {"expected_batch_size": 1, "loss_reduction": "sum", "generator": numbers(seed)}
    optimizer = DPOptimizer(
        torch.optim.SGD(layer.parameters(), lr=1.0), noise_multiplier=noise, max_grad_norm=clip, **options
    )
    outputs = []
    for _ in range(n_runs):
        optimizer.zero_grad()
        layer(batch).sum().backward()
        optimizer.pre_step()
        outputs.append(layer._module.weight.grad[0, 0].item())
    return torch.tensor(outputs)


def test_per_sample_clipping_of_opacus_equals_a_loop_over_records():
    model, records, clip = small_model().double(), small_records(9), 3.0
    parameters = list(model.parameters())
    clipped = [torch.zeros_like(p) for p in parameters]
    factors = []
    for record in records:
        own = torch.autograd.grad(model.nats(record[None]).sum(), parameters)
        norm = torch.sqrt(sum(g.square().sum() for g in own))
        factors.append(min(1.0, clip / norm.item()))
        clipped = [c + g * factors[-1] for c, g in zip(clipped, own, strict=True)]
    assert min(factors) < 1
    GradSampleModule(model, loss_reduction="sum")
    optimizer = DPOptimizer(
        torch.optim.SGD(parameters, lr=1.0),
        noise_multiplier=0.0,
        max_grad_norm=clip,
        expected_batch_size=9,
        loss_reduction="sum",
    )
    model.nats(records).sum().backward()
    optimizer.pre_step()
    for p, c in zip(parameters, clipped, strict=True):
        assert torch.allclose(p.grad, c, atol=1e-5)


def test_the_audit_passes_a_step_of_opacus_and_catches_one_that_does_not_clip():
    ordinary, loud = normals(4, 5).float(), 8 * torch.eye(5)[:1]
    sigma = gaussian_sigma(BUDGET)
    proved = []
    for clip, noise in ((1.0, sigma), (100.0, sigma / 100)):  # the same noise; the second clips nothing
        options = {"clip": clip, "noise": noise, "n_runs": 600}
        seen = (released(torch.cat([ordinary, loud]), **options, seed=1), released(ordinary, **options, seed=2))
        proved.append(audit(*seen, delta=BUDGET.delta).epsilon)
    assert proved[0] <= BUDGET.epsilon < proved[1]


@pytest.mark.parametrize("epsilon", [0.5, 8.0])
def test_training_keeps_its_budget_and_says_what_it_spent(epsilon):
    model, records = small_model(), small_records(200)
    options = {"n_steps": 12, "batch_size": 25, "generator": numbers()}
    spent = fit(model, records, budget=Budget(epsilon=epsilon, delta=1e-3), **options)
    accountant = PRVAccountant()
    accountant.history = [(spent.noise_multiplier, 1 / 8, 12)]
    assert 0.5 * epsilon < spent.epsilon <= epsilon
    with np.errstate(divide="ignore"):
        assert spent.epsilon == pytest.approx(accountant.get_epsilon(1e-3), abs=1e-6)
    assert spent.delta == 1e-3
    gradients = [getattr(p, name, None) for p in model.parameters() for name in ("grad_sample", "summed_grad", "grad")]
    assert gradients == [None] * len(gradients)  # of single records nothing stays behind
    model.nats(records).sum().backward()  # and the model is an ordinary one again
    assert all(getattr(p, "grad_sample", None) is None for p in model.parameters())


def test_a_smaller_budget_takes_more_noise():
    sigmas = []
    for epsilon in (0.5, 8.0):
        budget = Budget(epsilon=epsilon, delta=1e-3)
        spent = fit(small_model(), small_records(100), n_steps=2, batch_size=50, budget=budget, generator=numbers())
        sigmas.append(spent.noise_multiplier)

    assert sigmas[0] > 2 * sigmas[1]


@pytest.mark.parametrize("budget", [None, Budget(epsilon=2.0, delta=1e-3)])
def test_equal_generators_train_equal_models(budget):
    one, two, other = small_model(), small_model(), small_model()
    for model, seed in ((one, 3), (two, 3), (other, 4)):
        fit(model, small_records(60), n_steps=5, batch_size=20, budget=budget, generator=numbers(seed))
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.output.weight, other.output.weight)


def test_empty_batches_are_part_of_private_training():
    """With three records that join a batch with probability 1/3, three in ten batches are empty."""
    budget = Budget(epsilon=2.0, delta=0.1)
    spent = fit(small_model(), small_records(3), n_steps=30, batch_size=1, budget=budget, generator=numbers())
    assert spent.epsilon <= 2.0


def test_random_records_are_learned_by_heart_without_a_budget_and_hardly_with_one():
    """Of random records nothing else can be learned, so all that an attack finds is memory."""
    records, fresh = small_records(100), small_records(100, seed=1)
    budget, rocs = Budget(epsilon=1.0, delta=1e-3), []
    for promised in (None, budget):
        model = small_model()
        spent = fit(model, records, n_steps=120, batch_size=25, budget=promised, generator=numbers())
        assert (spent is None) == (promised is None)
        with torch.no_grad():
            rocs.append(membership_roc(-model.nats(records), -model.nats(fresh)))
    memoriser, private = rocs
    assert memoriser.low > max(0.7, private.high)
    assert private.auc < auc_bound(budget)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"n_steps": 0}, "n_steps and batch_size"),
        ({"batch_size": 0}, "n_steps and batch_size"),
        ({"learning_rate": 0.0}, "learning rate and clip norm"),
        ({"clip_norm": math.inf}, "learning rate and clip norm"),
        ({"clip_norm": 0.0}, "learning rate and clip norm"),
        ({"budget": Budget(epsilon=1.0, delta=0.05)}, "δ < 1/20"),
        ({"records": torch.zeros(0, 5).long()}, "at least one record"),
        ({"records": torch.zeros(5).long()}, "expected records"),
    ],
)
def test_training_says_what_it_needs(change, fault):
    options = {"records": small_records(20), "n_steps": 1, "batch_size": 5, "generator": numbers()} | change
    with pytest.raises(ValueError, match=fault):
        fit(small_model(), **options)


# Audits --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("factor", "caught"), [(1.0, False), (1 / 3, True)])
def test_the_audit_of_the_gaussian_mechanism_stays_below_the_truth_and_catches_too_little_noise(factor, caught):
    noise = factor * gaussian_sigma(BUDGET) * normals(2, 20_000)
    result = audit(1 + noise[0], noise[1], delta=BUDGET.delta)
    assert (result.epsilon > BUDGET.epsilon) == caught


def test_the_audit_errs_no_more_often_than_it_says():
    """Randomised response attains its ε exactly (Warner 1965), so a bound above it is an error: at most 5 in 100."""
    epsilon, n_audits = 1.0, 400
    honest = math.exp(epsilon) / (1 + math.exp(epsilon))
    uniform = torch.rand(n_audits, 2, 400, generator=numbers(), dtype=torch.float64)
    errors = [audit((u < honest).double(), (v >= honest).double(), delta=0.0).epsilon > epsilon for u, v in uniform]
    assert np.mean(errors) <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / n_audits)


def test_the_audit_comes_close_to_the_truth_with_many_runs():
    honest = math.e / (1 + math.e)
    u, v = torch.rand(2, 100_000, generator=numbers())
    result = audit((u < honest).double(), (v >= honest).double(), delta=0.0)
    assert 0.95 < result.epsilon < 1
    assert result.true_positive_rate == pytest.approx(honest, abs=0.01)
    assert result.false_positive_rate == pytest.approx(1 - honest, abs=0.01)


def test_equal_outputs_prove_nothing():
    assert audit(torch.ones(100), torch.ones(100), delta=0.0).epsilon == 0


def test_the_audit_needs_runs_and_probabilities():
    with pytest.raises(ValueError, match="at least 20 runs"):
        audit(torch.rand(19), torch.rand(30), delta=0.0)
    for delta, confidence in ((-0.1, 0.95), (1.0, 0.95), (0.0, 1.0)):
        with pytest.raises(ValueError, match="a confidence in"):
            audit(torch.rand(30), torch.rand(30), delta=delta, confidence=confidence)
