"""Numbers and exact values: one way to read them from any library, one way to print them alike on every machine."""

import math
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import numpy as np
import sympy
import torch
from numpy.typing import NDArray

DIGITS = 4  # significant digits that agree between CPUs, with a margin
_LONGEST = 72  # characters of one value in a line


def array(value: Any, name: str) -> NDArray:
    """Any number, array, tensor or matrix as float64 or complex128 (exact for float32 and bfloat16).

    Raises:
        ValueError: it holds something that is not a number; the message uses `name`.
    """
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().to(torch.complex128 if value.is_complex() else torch.float64).numpy()
    elif isinstance(value, sympy.MatrixBase):
        value = value.tolist()
    try:
        result = np.asarray(value)
        if result.dtype.kind == "O":  # SymPy numbers, fractions
            result = np.array([complex(entry) for entry in result.flat]).reshape(result.shape)
            return result if result.imag.any() else result.real
        if result.dtype.kind not in "biufc":
            raise TypeError(f"dtype {result.dtype}")
        return result.astype(np.complex128 if result.dtype.kind == "c" else np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} has to be a number or an array of numbers, got {short(repr(value))}") from error


def real(value: Any, name: str) -> float:
    """One real number as float; ValueError for arrays, complex numbers and what is no number."""
    result = array(value, name)
    if result.ndim or result.dtype.kind == "c":
        raise ValueError(f"{name} has to be one real number, got shape {result.shape}, {result.dtype}")
    return float(result)


def number(value: complex | float) -> str:
    """At most four significant digits.

    Rounds twice, first to six digits: 0.12345 and its neighbours in float32 and float64 then are the same tie, which
    goes to the even digit, instead of up on one machine and down on another.
    """
    if isinstance(value, complex):
        re, im = number(value.real), number(value.imag)
        return re if im == "0" else f"{re}{im if im.startswith('-') else '+' + im}j"
    if not math.isfinite(value):
        return str(value)
    six = Decimal(f"{value:.6g}")
    if not six:
        return "0"
    last_place = Decimal(1).scaleb(six.adjusted() - DIGITS + 1)
    return f"{float(six.quantize(last_place, ROUND_HALF_EVEN)):.{DIGITS}g}"


def exact(value: Any) -> Any:
    """Plain Python types, so that equal values have equal texts (torch.Size and tuple, NumPy and Python integers).

    Raises:
        ValueError: it holds a float, an array or another type without exact equality.
    """
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer, sympy.Integer)):
        return int(value)
    if value is None or isinstance(value, (str, bytes)):
        return value
    if isinstance(value, list):
        return [exact(item) for item in value]
    if isinstance(value, tuple):
        return tuple(exact(item) for item in value)
    if isinstance(value, AbstractSet):
        return frozenset(exact(item) for item in value)
    if isinstance(value, Mapping):
        return {exact(key): exact(item) for key, item in value.items()}
    raise ValueError(
        "exact equality is for integers, strings, shapes and collections of them, "
        f"got {type(value).__name__}; for floats and arrays use check(..., within=...)"
    )


def exact_text(value: Any) -> str:
    """`repr` on one line, with sets in a fixed order: the hash of strings changes with every process."""
    if isinstance(value, frozenset):
        return "{" + ", ".join(sorted(map(exact_text, value))) + "}"
    return repr(value)


def short(text: str) -> str:
    """The text, cut to what fits in a line."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
