"""Normally distributed float32 numbers, by operations that IEEE 754 rounds exactly: every machine gives the same bits.

Box and Muller's transform (1958): sqrt(-2 ln u) times the cosine and the sine of an even angle. NumPy's own normal numbers take three times
as long, and its logarithm, sine and cosine have other last bits on other processors; polynomials of multiplications and additions do not.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

# Minimax polynomials, lowest power first; their errors, of at most 1e-5, are far below what any test of a distribution sees.
_LOG = (-1.0000072, 0.50003934, -0.3321914, 0.24780817, -0.22647081, 0.1984577)  # -ln(1 + t) / t, for |t| <= 1/3
_COS = (1.0, -0.49999982, 0.04166142, -0.0013661296)  # cos(p), in p**2, for |p| <= pi/4
_SIN = (1.0, -0.16665734, 0.008211985)  # sin(p) / p, in p**2

_LEAST = np.int32(0x3F2AAAAB)  # the bits of 2/3: mantissas are taken from 2/3 to 4/3
_MANTISSA = np.int32(0x007FFFFF)
_MAGNITUDE = np.int32(0x7FFFFFFF)


LARGEST = 2**19
"""How many numbers are drawn at once. Fewer, and threads wait for Python's lock between NumPy's calls: up to 1.6 times as long in all."""

# Of the drawn bits: larger arrays are mapped and unmapped by the system each time, which costs as much as all else.
_PIECE = 2**14


def room() -> Array:
    """Memory for ``fill`` to work in, to be used again: allocating it each time would take half the time."""
    return np.empty((6, LARGEST // 2 + 1), np.float32)


def fill(out: Array, bits: np.random.BitGenerator, std: float, room: Array) -> None:
    """Fill a float32 array (count,), of at most LARGEST numbers, with normal numbers around zero."""
    half = -(-out.size // 2)
    first, second, t, u, v, w = room[:, :half]
    _draw(first.view(np.uint32), bits)
    _draw(second.view(np.uint32), bits)
    radius = _radius(first.view(np.int32), t, u, v)
    radius *= np.float32(std)
    angle = t
    angle[:] = second.view(np.int32)
    angle *= np.float32(np.pi / 4 / 2**31)
    squared = np.multiply(angle, angle, out=v)
    sine = _polynomial(squared, _SIN, w)
    sine *= angle
    cosine = _polynomial(squared, _COS, t)
    # An angle within a quarter of the circle, turned by an eighth; the signs, from the lowest bits, make it the whole.
    np.add(cosine, sine, out=v)
    np.subtract(cosine, sine, out=t)
    for turned, drawn, part in ((t, first, out[:half]), (v, second, out[half:])):
        turned *= radius
        sign = drawn.view(np.uint32)
        sign <<= np.uint32(31)
        signed = turned.view(np.uint32)
        signed ^= sign
        part[:] = turned[: part.size]


def _draw(out: Array, bits: np.random.BitGenerator) -> None:
    """Fill an array of whole numbers (count,) of 32 bits."""
    for at in range(0, out.size, 2 * _PIECE):
        piece = out[at : at + 2 * _PIECE]
        piece[:] = bits.random_raw(-(-piece.size // 2)).astype("<u8", copy=False).view("<u4")[: piece.size]


def _radius(drawn: Array, t: Array, u: Array, v: Array) -> Array:
    """sqrt(-ln x) for x = |k| / 2**31, where k are the drawn whole numbers with their signs; t, u and v are room, and it is in u."""
    t[:] = drawn
    digits, exponent = t.view(np.int32), v.view(np.int32)
    digits &= _MAGNITUDE
    digits -= _LEAST
    np.right_shift(digits, np.int32(23), out=exponent)
    exponent -= np.int32(31)
    digits &= _MANTISSA
    digits += _LEAST
    t -= np.float32(1)  # the mantissa less one
    radius = _polynomial(t, _LOG, u)
    radius *= t
    t[:] = exponent
    t *= np.float32(-np.log(2))
    radius += t
    return np.sqrt(radius, out=radius)


def _polynomial(x: Array, factors: tuple[float, ...], out: Array) -> Array:
    """A polynomial's values, by Horner's rule."""
    *lower, highest = map(np.float32, factors)
    np.multiply(x, highest, out=out)
    for factor in reversed(lower[1:]):
        out += factor
        out *= x
    out += lower[0]
    return out
