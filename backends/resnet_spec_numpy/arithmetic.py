"""Products of matrices and functions, by NumPy or, in a fixed order, with the same bits on every machine.

NumPy's matrix products sum in an order that depends on the processor and on the number of threads, and the last bits of
its exponential function depend on the processor. In a fixed order, everything is computed by additions,
multiplications, divisions and square roots of single numbers, which IEEE 754 rounds in one way; sums and means are
NumPy's own in both cases, since their order depends on shapes alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from resnet_spec.weights.canonical import Array

_IS_ORDERED: ContextVar[bool] = ContextVar("is_ordered", default=False)


@contextmanager
def summation(is_ordered: bool) -> Iterator[None]:
    """Compute in a fixed order, or as NumPy does, while the context is active."""
    token = _IS_ORDERED.set(is_ordered)
    try:
        yield
    finally:
        _IS_ORDERED.reset(token)


def matmul(a: Array, b: Array) -> Array:
    """Return the product of two matrices, or of stacks of them, or of a matrix and a vector: a @ b."""
    if not _IS_ORDERED.get():
        return a @ b
    if b.ndim == 1:
        return matmul(a, b[:, None])[..., 0]
    y = a[..., :, :1] * b[..., :1, :]
    for index in range(1, a.shape[-1]):
        y += a[..., :, index : index + 1] * b[..., index : index + 1, :]
    return y


def exp(x: Array) -> Array:
    """Return e ** x."""
    return _apply(np.exp, _exp, x)


def expm1(x: Array) -> Array:
    """Return e ** x - 1, also where x is small."""
    return _apply(np.expm1, _expm1, x)


def tanh(x: Array) -> Array:
    """Return the hyperbolic tangent."""
    return _apply(np.tanh, _tanh, x)


_ERF: Callable[[Array], Array] = np.vectorize(math.erf, otypes=[np.float64])


def erf(x: Array) -> Array:
    """Return the error function, in float64."""
    return _erf(x.astype(np.float64)) if _IS_ORDERED.get() else _ERF(x)


def _apply(native: Callable[[Array], Array], ordered: Callable[[Array], Array], x: Array) -> Array:
    return ordered(x.astype(np.float64)).astype(x.dtype) if _IS_ORDERED.get() else native(x)


_TAYLOR_TERMS = 16
"""Terms of the exponential series: for |r| <= ln(2) / 2, the next one is below 1e-21."""

_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
"""ln(2) as a sum, of which the first number times an integer below 2^20 is exact."""


def _exp(x: Array) -> Array:
    x = np.clip(x, -745.0, 709.0)
    power = np.rint(x * (1 / math.log(2)))
    return np.ldexp(1 + _expm1_near_zero(x - power * _LN2_HIGH - power * _LN2_LOW), power.astype(np.int32))


def _expm1_near_zero(x: Array) -> Array:
    y = np.zeros_like(x)
    for term in range(_TAYLOR_TERMS, 0, -1):
        y = (1 + y) * x / term
    return y


def _expm1(x: Array) -> Array:
    return np.where(np.abs(x) < 0.34, _expm1_near_zero(np.clip(x, -0.34, 0.34)), _exp(x) - 1)


def _tanh(x: Array) -> Array:
    decay = _expm1(-2 * np.abs(x))
    return np.copysign(-decay / (2 + decay), x)


_ERF_TERMS = 110
"""Terms of the series of the error function: up to its bound, the next one is below 1e-17 of the sum."""

_ERF_BOUND = 6.0
"""Beyond it, the error function is 1 or -1 in float64."""


def _erf(x: Array) -> Array:
    z = np.clip(x, -_ERF_BOUND, _ERF_BOUND)
    term = total = z  # the sum of 2^n z^(2n + 1) / (1 * 3 * ... * (2n + 1)): all its terms have one sign
    for n in range(1, _ERF_TERMS):
        term = term * (2 * z * z) / (2 * n + 1)
        total = total + term
    return np.clip(total * _exp(-z * z) * (2 / math.sqrt(math.pi)), -1.0, 1.0)
