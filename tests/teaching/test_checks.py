"""A check that cannot fail is a defect: every form is shown to pass, to fail, and to print one stable line."""

import math

import numpy as np
import pytest
import sympy
import torch
from hypothesis import given
from hypothesis import strategies as st

from aigc_lib.teaching import checks, values
from aigc_lib.teaching.checks import (
    CheckFailed,
    check,
    check_between,
    check_equal,
    check_monte_carlo,
    check_symbolic,
    check_true,
    checks_passed,
    refute,
    refute_monte_carlo,
    refute_symbolic,
    refute_true,
)

finite = st.floats(-1e6, 1e6)
bounds = st.floats(0, 1e6)


def lines(capsys) -> list[str]:
    return capsys.readouterr().out.splitlines()


class TestCheck:
    def test_the_line_has_tick_section_claim_values_and_bound(self, capsys):
        check("4.1.3", "V(D*) = −log 4 + 2 JSD", -0.980829, -0.980829 + 1e-15, within=1e-12)
        assert lines(capsys) == [
            "✓ 4.1.3  V(D*) = −log 4 + 2 JSD: got = -0.9808, expected = -0.9808, |difference| ≤ 1e-12"
        ]

    def test_measured_values_come_after_the_sign_that_is_masked(self, capsys):
        check("4", "loss", 0.0321, 0.0, within=0.1, measured=True)
        assert lines(capsys) == ["✓ 4  loss: got ≈ 0.0321, expected ≈ 0, |difference| ≤ 0.1"]

    def test_arrays_show_their_shape_and_not_their_contents(self, capsys):
        check("4", "identity", torch.eye(3), np.eye(3), within=0)
        assert lines(capsys) == ["✓ 4  identity: shape (3, 3), largest |difference| ≤ 0"]

    @given(finite, finite, bounds)
    def test_it_passes_exactly_when_the_difference_is_within_the_bound(self, got, expected, within):
        if abs(got - expected) <= within:
            check("1", "near", got, expected, within=within)
        else:
            with pytest.raises(CheckFailed):
                check("1", "near", got, expected, within=within)

    @given(finite, finite, bounds)
    def test_refute_is_its_negation(self, got, expected, within):
        passed = []
        for form in (check, refute):
            try:
                form("1", "claim", got, expected, within=within)
                passed.append(form)
            except CheckFailed:
                pass
        assert len(passed) == 1

    @pytest.mark.parametrize(
        "half",
        [
            0.5,
            np.float32(0.5),
            torch.tensor(0.5, dtype=torch.bfloat16),
            torch.tensor(0.5, requires_grad=True),
            sympy.Rational(1, 2),
            sympy.exp(-sympy.log(2)),
            0.5 + 0j,
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_numbers_of_every_library_are_understood(self, half, capsys):
        check("1", "half", half, 0.5, within=1e-12)
        assert "got = 0.5, expected = 0.5" in lines(capsys)[0]

    def test_complex_values_are_compared_by_modulus(self, capsys):
        eigenvalue = torch.tensor(-0.15 + 0.477j, dtype=torch.complex128)
        check("GAN-12", "eigenvalue", eigenvalue, -0.15 + 0.477j, within=1e-9)
        assert "got = -0.15+0.477j" in lines(capsys)[0]
        with pytest.raises(CheckFailed):
            check("GAN-12", "eigenvalue", eigenvalue, -0.15 - 0.477j, within=0.9)

    def test_a_matrix_of_sympy_is_an_array(self, capsys):
        check("1", "matrix", sympy.eye(2), torch.eye(2), within=0)
        assert "shape (2, 2)" in lines(capsys)[0]

    def test_equal_infinities_are_equal_and_nan_is_never(self):
        check("1", "infinite", [math.inf, 1.0], [math.inf, 1.0], within=0)
        for got, expected in [(math.nan, math.nan), (math.nan, 0.0), (math.inf, -math.inf), ([0.0, math.nan], [0, 0])]:
            with pytest.raises(CheckFailed):
                check("1", "not a number", got, expected, within=1e9)

    def test_a_failure_shows_values_in_full_and_where(self):
        with pytest.raises(CheckFailed, match=r"got 0\.1234567891, expected 0\.1234567892"):
            check("1", "near", 0.1234567891, 0.1234567892, within=1e-12)
        with pytest.raises(CheckFailed, match=r"shape \(2, 2\), farthest apart at \[1, 0\]: got 3\.0, expected 5\.0"):
            check("1", "near", [[0, 0], [3, 1]], [[0, 1], [5, 1]], within=1)

    @pytest.mark.parametrize("within", [-1e-9, math.nan, math.inf])
    def test_a_bound_that_is_none_is_refused(self, within):
        for form in (check, refute):
            with pytest.raises(ValueError, match="within"):
                form("1", "claim", 1.0, 2.0, within=within)

    def test_shapes_are_never_broadcast(self):
        for form in (check, refute):
            with pytest.raises(ValueError, match=r"\(3,\).*\(3, 1\)"):
                form("1", "claim", torch.zeros(3), torch.zeros(3, 1), within=1)

    @pytest.mark.parametrize("value", ["0.5", None, sympy.Symbol("x"), [[1], [1, 2]], object()])
    def test_what_is_not_numeric_is_refused(self, value):
        with pytest.raises(ValueError, match="got has to be a number"):
            check("1", "claim", value, 0.5, within=1)

    def test_a_check_on_nothing_is_refused(self):
        with pytest.raises(ValueError, match="cannot fail"):
            check("1", "claim", [], [], within=1)

    @pytest.mark.parametrize(("section", "claim"), [("", "claim"), ("1", " "), ("1", "two\nlines")])
    def test_a_line_needs_section_and_claim(self, section, claim):
        with pytest.raises(ValueError, match="one line"):
            check(section, claim, 1, 1, within=0)


class TestStableText:
    @given(st.floats(0.1, 1e3), st.floats(-1, 1))
    def test_noise_below_the_bound_never_reaches_the_text(self, expected, noise):
        a, b = np.asarray(expected + 1e-9 * noise), np.asarray(expected)
        assert checks._agreeing(a, b, 1e-8, False) == checks._agreeing(b, b, 1e-8, False)

    def test_a_difference_that_is_only_noise_prints_as_zero(self, capsys):
        check("1", "vanishes", 3.3e-17, 0.0, within=1e-12)
        check("1", "vanishes", -1.05e-12, -1e-13, within=1e-12)
        assert [line.split(": ")[1] for line in lines(capsys)] == ["got = 0, expected = 0, |difference| ≤ 1e-12"] * 2

    @given(st.integers(1, 9_999), st.sampled_from([-2, -1, 1, 2]))
    def test_a_tie_rounds_alike_from_both_sides(self, thousandth, steps):
        tie = (thousandth + 0.5) / 10_000  # five digits that end in 5
        neighbour = np.float32(tie)
        for _ in range(abs(steps)):
            neighbour = np.nextafter(neighbour, np.float32(math.copysign(9, steps)))
        assert values.number(float(neighbour)) == values.number(tie)

    @given(st.floats(-1e300, 1e300))
    def test_a_number_is_off_by_at_most_half_a_unit_in_the_fourth_digit(self, value):
        assert math.isclose(float(values.number(value)), value, rel_tol=5.1e-4)

    @pytest.mark.parametrize(
        ("value", "text"),
        [(0.0, "0"), (-0.0, "0"), (2.0, "2"), (22025.47, "2.203e+04"), (1e-12, "1e-12"), (math.inf, "inf")],
    )
    def test_numbers_read_as_people_write_them(self, value, text):
        assert values.number(value) == text


class TestRefute:
    def test_the_line_shows_both_and_the_broken_bound(self, capsys):
        refute("4.1.3", "without the factor 2", -1.18356, -0.98083, within=1e-12)
        assert lines(capsys) == [
            "✗ refuted 4.1.3  without the factor 2: printed = -1.184, correct = -0.9808, |difference| > 1e-12"
        ]

    def test_nan_is_refuted_and_said_to_be_not_finite(self, capsys):
        refute("4", "log 0", math.nan, 0.5, within=0.1)
        assert lines(capsys)[0].endswith("printed = nan, correct = 0.5, |difference| not finite")

    def test_a_difference_in_a_later_digit_is_said_to_be_one(self, capsys):
        refute("4", "off by little", 0.693141, 0.693147, within=1e-9)
        assert "printed = 0.6931, correct = 0.6931 (they part in a later digit)" in lines(capsys)[0]

    def test_what_holds_cannot_be_refuted(self):
        with pytest.raises(CheckFailed, match="not refuted"):
            refute("4", "right after all", 0.5, 0.5, within=0)


class TestBetween:
    def test_the_line(self, capsys):
        check_between("7", "precision", 0.831, 0.75, 1.0)
        check_between("7", "modes", 10, 10, math.inf, measured=False)
        assert lines(capsys) == ["✓ 7  precision: 0.75 ≤ got ≈ 0.831 ≤ 1", "✓ 7  modes: 10 ≤ got = 10"]

    @pytest.mark.parametrize("got", [0.0, 2.0, math.nan])
    def test_outside_fails(self, got):
        with pytest.raises(CheckFailed):
            check_between("7", "claim", got, 0.5, 1.0)

    @pytest.mark.parametrize(("low", "high"), [(1, 0), (math.nan, 1), (-math.inf, math.inf)])
    def test_an_interval_that_is_none_is_refused(self, low, high):
        with pytest.raises(ValueError, match="low ≤ high"):
            check_between("7", "claim", 0.5, low, high)

    def test_an_array_is_refused(self):
        with pytest.raises(ValueError, match="one real number"):
            check_between("7", "claim", [0.5, 0.6], 0, 1)


class TestTrueAndEqual:
    def test_truth_prints_its_evidence(self, capsys):
        check_true("2", "every path ends", torch.tensor(True), evidence="5 of 5 nodes")
        refute_true("2", "the printed graph is connected", np.bool_(False), evidence="2 components")
        assert lines(capsys) == [
            "✓ 2  every path ends: 5 of 5 nodes",
            "✗ refuted 2  the printed graph is connected: 2 components",
        ]

    def test_falsehood_fails_and_truth_is_not_refuted(self):
        with pytest.raises(CheckFailed):
            check_true("2", "claim", False)
        with pytest.raises(CheckFailed, match="not refuted"):
            refute_true("2", "claim", True)

    @pytest.mark.parametrize("condition", [1, [False], "no", None, torch.tensor([True])])
    def test_only_booleans_are_conditions(self, condition):
        for form in (check_true, refute_true):
            with pytest.raises(ValueError, match="True or False"):
                form("2", "claim", condition)

    @pytest.mark.parametrize(
        ("got", "expected"),
        [
            (torch.zeros(2, 3).shape, (2, 3)),
            (np.int64(7), 7),
            ({"b", "a"}, {"a", "b"}),
            ({"modes": [1, 2]}, {"modes": [1, 2]}),
            ("生成", "生成"),
        ],
    )
    def test_equal_values_have_equal_texts(self, got, expected, capsys):
        check_equal("2", "claim", got, expected)
        left, right = lines(capsys)[0].removeprefix("✓ 2  claim: got = ").split(", expected = ")
        assert left == right

    def test_unequal_values_fail(self):
        with pytest.raises(CheckFailed, match=r"got \(2, 3\), expected \(3, 2\)"):
            check_equal("2", "shape", (2, 3), (3, 2))

    @pytest.mark.parametrize("value", [0.5, torch.ones(2), [1, 0.5]])
    def test_floats_have_no_exact_equality(self, value):
        with pytest.raises(ValueError, match="within"):
            check_equal("2", "claim", value, value)


class TestSymbolic:
    x = sympy.Symbol("x", positive=True)

    def test_an_identity_passes_and_is_not_refuted(self, capsys):
        square = sympy.sin(self.x) ** 2 + sympy.cos(self.x) ** 2
        check_symbolic("4", "circle", square, 1)
        assert lines(capsys) == ["✓ 4  circle: left − right simplifies to 0"]
        with pytest.raises(CheckFailed, match="not refuted"):
            refute_symbolic("4", "circle", square, 1)

    def test_a_falsehood_fails_and_is_refuted_with_the_remainder(self, capsys):
        with pytest.raises(CheckFailed, match=r"left − right = x"):
            check_symbolic("4", "double", 2 * self.x, self.x)
        refute_symbolic("4", "double", 2 * self.x, self.x)
        assert lines(capsys) == ["✗ refuted 4  double: left − right = x, not 0"]

    def test_an_undecided_remainder_is_neither_proof_nor_refutation(self, monkeypatch):
        monkeypatch.setattr(sympy.Expr, "equals", lambda self, other: None)
        for form in (check_symbolic, refute_symbolic):
            with pytest.raises(CheckFailed):
                form("4", "claim", self.x**2, self.x)

    def test_matrices_are_compared_entry_by_entry(self):
        matrix = sympy.Matrix([[self.x, 1], [0, self.x]])
        check_symbolic("4", "square", matrix**2, matrix * matrix)
        refute_symbolic("4", "transpose", matrix, matrix.T)
        with pytest.raises(ValueError, match=r"\(2, 2\).*\(1, 2\)"):
            check_symbolic("4", "shapes", matrix, matrix[0, :])

    @pytest.mark.parametrize("side", ["x", None, [1], torch.ones(2), sympy.Eq(sympy.Symbol("x"), 1)])
    def test_other_things_are_refused(self, side):
        with pytest.raises(ValueError, match="SymPy expressions"):
            check_symbolic("4", "claim", side, self.x)


class TestMonteCarlo:
    samples = torch.randn(10_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 3

    def test_the_mean_is_stated_with_its_standard_error(self, capsys):
        check_monte_carlo("4", "pathwise", self.samples, 3)
        (line,) = lines(capsys)
        assert line.startswith("✓ 4  pathwise: mean of 10,000 ≈ ")
        assert " ± 0.0" in line
        assert line.endswith("expected = 3, |difference| ≤ 4 standard errors")

    def test_a_wrong_mean_fails_and_is_refuted(self, capsys):
        with pytest.raises(CheckFailed, match="standard errors"):
            check_monte_carlo("4", "claim", self.samples, 3.1)
        refute_monte_carlo("4", "claim", self.samples, 3.1)
        assert lines(capsys)[0].startswith("✗ refuted 4  claim: mean of 10,000 ≈ ")

    def test_the_right_mean_is_not_refuted(self):
        with pytest.raises(CheckFailed, match="not refuted"):
            refute_monte_carlo("4", "claim", self.samples, 3)

    def test_the_standard_error_is_that_of_the_mean(self, capsys):
        check_monte_carlo("4", "claim", [0.0, 2.0] * 50, 1.0)  # standard deviation 1.00504, over √100
        assert "≈ 1 ± 0.1005" in lines(capsys)[0]

    def test_a_closed_form_of_zero_prints_as_zero(self, capsys):
        check_monte_carlo("4", "claim", self.samples - self.samples.mean(), 1e-17)
        assert "expected = 0," in lines(capsys)[0]

    @pytest.mark.parametrize(
        "samples",
        [torch.zeros(29), torch.zeros(100), torch.randn(40, 2), torch.full((40,), math.nan), torch.full((99,), 0.1)],
        ids=["too few", "constant", "two axes", "NaN", "constant up to rounding"],
    )
    def test_samples_without_a_standard_error_are_refused(self, samples):
        for form in (check_monte_carlo, refute_monte_carlo):
            with pytest.raises(ValueError, match=r"samples"):
                form("4", "claim", samples, 0.0)

    @pytest.mark.parametrize("sigmas", [0, -1, math.nan, math.inf])
    def test_sigmas_has_to_be_a_bound(self, sigmas):
        with pytest.raises(ValueError, match="sigmas"):
            check_monte_carlo("4", "claim", self.samples, 3, sigmas=sigmas)


def test_every_pass_is_counted_and_no_failure():
    before = checks_passed()
    check("1", "claim", 1, 1, within=0)
    refute("1", "claim", 1, 2, within=0)
    with pytest.raises(CheckFailed):
        check_equal("1", "claim", 1, 2)
    assert checks_passed() == before + 2
