"""What the notebooks are made of: executed claims, figures, media, diagrams, exercises, interactive figures."""

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
from aigc_lib.teaching.figures import COLORS, figure, image_grid, show, table
from aigc_lib.teaching.session import Session, begin

__all__ = [
    "COLORS",
    "CheckFailed",
    "Session",
    "begin",
    "check",
    "check_between",
    "check_equal",
    "check_monte_carlo",
    "check_symbolic",
    "check_true",
    "checks_passed",
    "figure",
    "image_grid",
    "refute",
    "refute_monte_carlo",
    "refute_symbolic",
    "refute_true",
    "show",
    "table",
]
