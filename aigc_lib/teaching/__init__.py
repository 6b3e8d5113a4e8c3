"""What the notebooks are made of: executed claims, figures, media, diagrams, exercises, interactive figures."""

from aigc_lib.datasets.flow_files import flow_colors
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
from aigc_lib.teaching.diagrams import graph, mermaid
from aigc_lib.teaching.exercises import hint, submit
from aigc_lib.teaching.figures import COLORS, figure, image_grid, show, table
from aigc_lib.teaching.media import audio, film_strip, spectrogram, video
from aigc_lib.teaching.session import Session, begin
from aigc_lib.teaching.widgets import InteractiveFigure, Scrubber, explore

__all__ = [
    "COLORS",
    "CheckFailed",
    "InteractiveFigure",
    "Scrubber",
    "Session",
    "audio",
    "begin",
    "check",
    "check_between",
    "check_equal",
    "check_monte_carlo",
    "check_symbolic",
    "check_true",
    "checks_passed",
    "explore",
    "figure",
    "film_strip",
    "flow_colors",
    "graph",
    "hint",
    "image_grid",
    "mermaid",
    "refute",
    "refute_monte_carlo",
    "refute_symbolic",
    "refute_true",
    "show",
    "spectrogram",
    "submit",
    "table",
    "video",
]
