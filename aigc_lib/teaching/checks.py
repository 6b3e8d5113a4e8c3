"""Executed claims: each check prints one line that is the same on every machine, and raises when the claim is false.

    ✓ 4.1.3  max over D of V = −log 4 + 2 JSD: got = -0.9808, expected = -0.9808, |difference| ≤ 1e-12
    ✗ refuted 4.1.3  the same without the factor 2: printed = -1.184, correct = -0.9808, |difference| > 1e-12

A number after "=" is the same everywhere and is compared by its text when the notebooks are validated. A number
after "≈" came from training, sampling or timing (`measured=True`): tests/notebooks/sanitize.cfg masks it, and the
check alone decides. Bounds are printed as they are, so `within` has to be a literal and not something measured.
"""

import math
from typing import Any

import numpy as np
import sympy
import torch
from numpy.typing import NDArray

from aigc_lib.teaching import values

_FEWEST_SAMPLES = 30  # below it the standard error itself is too uncertain

_passed = 0


class CheckFailed(AssertionError):
    """A claim of the course does not hold (or, in a `refute…`, the printed version passes after all)."""


def checks_passed() -> int:
    """How many checks and refutations have passed in this process."""
    return _passed


def check(section: str, claim: str, got: Any, expected: Any, *, within: float, measured: bool = False) -> None:
    """State that `got` equals `expected`: |got − expected| ≤ within, for arrays in every entry.

    Args:
        section: number of the section or derivation, "4.1.3" or "GAN-3".
        claim: one line that says what is equal.
        got: number (Python, NumPy, SymPy without free symbols), array or tensor, real or complex.
        expected: the same, in the same shape. NaN never passes; equal infinities are equal.
        within: bound of the difference, finite and ≥ 0.
        measured: the values come from training, sampling or timing; they are printed after "≈".

    Raises:
        CheckFailed: the difference is larger, or not a number; the message has the values in full.
        ValueError: the shapes differ (nothing is broadcast), a side is empty or not numeric, or `within` is no bound.
    """
    a, b, bound = _operands(got, expected, within)
    worst = _largest_difference(a, b)
    if not worst <= bound:
        raise CheckFailed(f"✗ {section}  {claim}: {_in_full(a, b)}, |difference| {worst!r} > {bound:g}")
    _report("✓", section, claim, f"{_agreeing(a, b, bound, measured)} ≤ {bound:g}")


def refute(section: str, claim: str, got: Any, expected: Any, *, within: float, measured: bool = False) -> None:
    """State that the printed version is wrong: `got` fails the very `check` that the correct version passes.

    Args and ValueError as in `check`; `got` is what the printed formula gives, `expected` what is true. Passes if the
    difference is larger than `within`, or not finite.

    Raises:
        CheckFailed: the printed version passes the check, so nothing is refuted.
    """
    a, b, bound = _operands(got, expected, within)
    worst = _largest_difference(a, b)
    if worst <= bound:
        raise CheckFailed(f"{section}  {claim}: not refuted, {_in_full(a, b)}, |difference| {worst!r} ≤ {bound:g}")
    verdict = f"> {bound:g}" if math.isfinite(worst) else "not finite"
    _report("✗ refuted", section, claim, f"{_disagreeing(a, b, bound, measured)} {verdict}")


def check_between(section: str, claim: str, got: Any, low: float, high: float, *, measured: bool = True) -> None:
    """State that low ≤ got ≤ high. `low` and `high` are literals, as they are printed; one of them may be infinite.

    Raises:
        CheckFailed: `got` lies outside or is NaN.
        ValueError: `got` is not one real number, `low` > `high`, an end is NaN, or both are infinite.
    """
    value, low, high = values.real(got, "got"), float(low), float(high)
    if not low <= high or (math.isinf(low) and math.isinf(high)):
        raise ValueError(f"check_between needs low ≤ high with at least one of them finite, got {low} and {high}")
    if not low <= value <= high:
        raise CheckFailed(f"✗ {section}  {claim}: {value!r} is not between {low:g} and {high:g}")
    left = "" if math.isinf(low) else f"{low:g} ≤ "
    right = "" if math.isinf(high) else f" ≤ {high:g}"
    _report("✓", section, claim, f"{left}got {_sign(measured)} {values.number(value)}{right}")


def check_true(section: str, claim: str, condition: bool, *, evidence: str = "") -> None:
    """State something that is exactly true or false; `evidence` is text that is the same on every machine.

    Raises:
        CheckFailed: the condition is False.
        ValueError: the condition is no boolean (a list or a number would be "true" by accident).
    """
    if not _boolean(condition):
        raise CheckFailed(f"✗ {section}  {claim}: is not so. {evidence}".rstrip())
    _report("✓", section, claim, evidence)


def refute_true(section: str, claim: str, condition: bool, *, evidence: str = "") -> None:
    """State that `condition`, which the printed version needs, is False. Arguments and errors as in `check_true`."""
    if _boolean(condition):
        raise CheckFailed(f"{section}  {claim}: not refuted, it is so. {evidence}".rstrip())
    _report("✗ refuted", section, claim, evidence)


def check_equal(section: str, claim: str, got: Any, expected: Any) -> None:
    """State exact equality of integers, strings, shapes, booleans, and lists, tuples, sets or dicts of these.

    Raises:
        CheckFailed: they differ.
        ValueError: one holds a float or an array (use `check` with a bound) or another type.
    """
    a, b = values.exact(got), values.exact(expected)
    if a != b:
        raise CheckFailed(f"✗ {section}  {claim}: got {a!r}, expected {b!r}")
    a, b = (values.short(values.exact_text(side)) for side in (a, b))
    _report("✓", section, claim, f"got = {a}, expected = {b}")


def check_symbolic(section: str, claim: str, left: Any, right: Any) -> None:
    """State an identity by computer algebra: left − right simplifies to 0, entry by entry for matrices.

    Raises:
        CheckFailed: it does not, or SymPy cannot tell (then rewrite one side, or give the symbols assumptions).
        ValueError: a side is no SymPy expression, or two matrices differ in shape.
    """
    remainder = _remainder(left, right)
    if not all(entry.equals(0) for entry in remainder):
        raise CheckFailed(f"✗ {section}  {claim}: left − right = {_witness(remainder)}, not 0")
    _report("✓", section, claim, "left − right simplifies to 0")


def refute_symbolic(section: str, claim: str, left: Any, right: Any) -> None:
    """State that an identity is provably false: SymPy shows that left − right is not 0 everywhere.

    Raises:
        CheckFailed: the sides are equal, or SymPy cannot tell (an unsimplified remainder proves nothing).
        ValueError: as in `check_symbolic`.
    """
    remainder = _remainder(left, right)
    if not any(entry.equals(0) is False for entry in remainder):
        raise CheckFailed(f"{section}  {claim}: not refuted, left − right = {_witness(remainder)}")
    _report("✗ refuted", section, claim, f"left − right = {values.short(str(_witness(remainder)))}, not 0")


def check_monte_carlo(section: str, claim: str, samples: Any, expected: Any, *, sigmas: float = 4.0) -> None:
    """State that the mean of independent `samples` (N,) is `expected`, to `sigmas` standard errors.

    Args:
        samples: real and finite, N ≥ 30.
        expected: a closed form: it is printed after "=".
        sigmas: a literal. At 4, a true claim fails for one seed in 16,000.

    Raises:
        CheckFailed: the mean is farther away.
        ValueError: `samples` is not as above or all equal (no standard error); `sigmas` is not positive and finite.
    """
    line, distance = _monte_carlo(samples, expected, sigmas)
    if distance > sigmas:
        raise CheckFailed(f"✗ {section}  {claim}: {line}, apart by {distance:.3g} > {sigmas:g} standard errors")
    _report("✓", section, claim, f"{line}, |difference| ≤ {sigmas:g} standard errors")


def refute_monte_carlo(section: str, claim: str, samples: Any, expected: Any, *, sigmas: float = 4.0) -> None:
    """State that the mean of `samples` is not `expected`: it is more than `sigmas` standard errors away.

    Args and ValueError as in `check_monte_carlo`. Raises CheckFailed if the mean is closer.
    """
    line, distance = _monte_carlo(samples, expected, sigmas)
    if distance <= sigmas:
        raise CheckFailed(f"{section}  {claim}: not refuted, {line}, apart by only {distance:.3g} standard errors")
    _report("✗ refuted", section, claim, f"{line}, |difference| > {sigmas:g} standard errors")


def _report(mark: str, section: str, claim: str, evidence: str) -> None:
    global _passed
    if not section.strip() or not claim.strip() or "\n" in section + claim + evidence:
        raise ValueError(f"a check needs a section and a claim, each on one line, got {section!r} and {claim!r}")
    _passed += 1
    print(f"{mark} {section}  {claim}" + (f": {evidence}" if evidence else ""))


def _sign(measured: bool) -> str:
    return "≈" if measured else "="


def _operands(got: Any, expected: Any, within: float) -> tuple[NDArray, NDArray, float]:
    a, b, bound = values.array(got, "got"), values.array(expected, "expected"), float(within)
    if not 0 <= bound < math.inf:
        raise ValueError(f"within has to be finite and at least 0, got {within}")
    if a.shape != b.shape:
        raise ValueError(f"got has shape {a.shape}, expected has shape {b.shape}: nothing is broadcast in a check")
    if not a.size:
        raise ValueError(f"a check on nothing cannot fail: both sides are empty, shape {a.shape}")
    return a, b, bound


def _differences(a: NDArray, b: NDArray) -> NDArray:
    with np.errstate(invalid="ignore"):  # inf − inf: equal infinities are equal
        return np.where(a == b, 0.0, np.abs(a - b))


def _largest_difference(a: NDArray, b: NDArray) -> float:
    return float(_differences(a, b).max())  # NaN if any is NaN


def _in_full(a: NDArray, b: NDArray) -> str:
    if not a.ndim:
        return f"got {a.item()!r}, expected {b.item()!r}"
    worst = tuple(map(int, np.unravel_index(_differences(a, b).argmax(), a.shape)))
    return f"shape {a.shape}, farthest apart at {list(worst)}: got {a[worst].item()!r}, expected {b[worst].item()!r}"


def _agreeing(a: NDArray, b: NDArray, bound: float, measured: bool) -> str:
    """The values of a check that passed. Parts at or below the bound are noise: they must not reach the text."""
    if a.ndim:
        return f"shape {a.shape}, largest |difference|"
    got, expected = _text(a, bound, measured), _text(b, bound, measured)
    finer_than_shown = bound < 0.5 * 10.0**-values.DIGITS * abs(b.item())
    if not measured and (expected == "0" or finer_than_shown):
        got = expected
    return f"got {_sign(measured)} {got}, expected {_sign(measured)} {expected}, |difference|"


def _disagreeing(a: NDArray, b: NDArray, bound: float, measured: bool) -> str:
    if a.ndim:
        return f"shape {a.shape}, largest |difference|"
    got, expected = _text(a, bound, measured), _text(b, bound, measured)
    later = " (they part in a later digit)" if got == expected else ""
    return f"printed {_sign(measured)} {got}, correct {_sign(measured)} {expected}{later}, |difference|"


def _text(value: NDArray, bound: float, measured: bool) -> str:
    """One value; the parts that are at or below the bound are shown as 0, unless it is measured anyway."""
    if measured:
        return values.number(value.item())
    real, imaginary = (0.0 if abs(part) <= bound else part for part in (value.real.item(), value.imag.item()))
    return values.number(complex(real, imaginary))


def _boolean(condition: Any) -> bool:
    if isinstance(condition, torch.Tensor) and condition.dtype == torch.bool and condition.ndim == 0:
        return bool(condition)
    if not isinstance(condition, (bool, np.bool_, sympy.logic.boolalg.BooleanAtom)):
        raise ValueError(f"the condition has to be True or False, got {values.short(repr(condition))}")
    return bool(condition)


def _remainder(left: Any, right: Any) -> list[sympy.Expr]:
    """Every entry of left − right, simplified."""
    try:
        left, right = (sympy.sympify(side, strict=True) for side in (left, right))
    except (TypeError, ValueError) as error:  # SympifyError is a ValueError
        raise ValueError(f"both sides have to be SymPy expressions, got {left!r} and {right!r}") from error
    if isinstance(left, sympy.MatrixBase) and isinstance(right, sympy.MatrixBase):
        if left.shape != right.shape:
            raise ValueError(f"left has shape {left.shape}, right has shape {right.shape}")
        return [sympy.simplify(entry) for entry in left - right]
    if not isinstance(left, sympy.Expr) or not isinstance(right, sympy.Expr):
        raise ValueError(f"both sides have to be SymPy expressions or both matrices, got {left!r} and {right!r}")
    return [sympy.simplify(left - right)]


def _witness(remainder: list[sympy.Expr]) -> sympy.Expr:
    return next((entry for entry in remainder if entry.equals(0) is False), remainder[0])


def _monte_carlo(samples: Any, expected: Any, sigmas: float) -> tuple[str, float]:
    """The values of the line, and how many standard errors the mean is away."""
    x, target = values.array(samples, "samples"), values.real(expected, "expected")
    if x.ndim != 1 or x.dtype.kind == "c" or x.size < _FEWEST_SAMPLES or not np.isfinite(x).all():
        raise ValueError(f"samples have to be (N,), real and finite, N ≥ {_FEWEST_SAMPLES}; got {x.shape}, {x.dtype}")
    if not 0 < sigmas < math.inf or not math.isfinite(target):
        raise ValueError(f"sigmas has to be positive and expected finite, got {sigmas} and {target}")
    mean, error = float(x.mean()), float(x.std(ddof=1) / math.sqrt(x.size))
    if error <= 1e-12 * abs(mean):
        raise ValueError("all samples are equal, so there is no standard error: use check(..., within=...)")
    shown = values.number(0.0 if abs(target) < 1e-6 * error else target)  # a closed form of 0 often comes as 1e-17
    line = f"mean of {x.size:,} ≈ {values.number(mean)} ± {values.number(error)}, expected = {shown}"
    return line, abs(mean - target) / error
