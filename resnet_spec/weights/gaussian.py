"""Normally distributed float32 values with the same bits on every machine.

They come from the transform of Box and Muller (1958): sqrt(-2 ln u) times the cosine and the sine of a uniform angle.
The functions are polynomials, computed by multiplications and additions, which IEEE 754 rounds exactly; the last bits
of NumPy's logarithm, sine and cosine depend on the processor. NumPy's own normal generator takes three times as long.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

# Minimax polynomials, lowest power first. Their errors are at most 1e-5, too small for any statistical test.
_LOG = (-1.0000072, 0.50003934, -0.3321914, 0.24780817, -0.22647081, 0.1984577)  # -ln(1 + t) / t, for |t| <= 1/3
_COS = (1.0, -0.49999982, 0.04166142, -0.0013661296)  # cos(p), in p**2, for |p| <= pi/4
_SIN = (1.0, -0.16665734, 0.008211985)  # sin(p) / p, in p**2

_TWO_THIRDS = np.int32(0x3F2AAAAB)  # the bits of 2/3: mantissas are scaled to the range from 2/3 to 4/3
_MANTISSA = np.int32(0x007FFFFF)
_MAGNITUDE = np.int32(0x7FFFFFFF)

MAX_COUNT = 2**19
"""Most values per call. With fewer, threads wait for Python's lock between calls: up to 1.6 times the time."""

# The system maps and unmaps larger arrays of random words each time, which costs as much as all the rest.
_WORDS_PER_DRAW = 2**14


def allocate_workspace() -> Array:
    """Return an array for ``fill_normal`` to work in. It can be reused: allocating it would take half of the time."""
    return np.empty((6, MAX_COUNT // 2 + 1), np.float32)


def fill_normal(out: Array, bits: np.random.BitGenerator, std: float, workspace: Array) -> None:
    """Fill a float32 array (count,) of at most MAX_COUNT values from the normal distribution with mean 0."""
    half = -(-out.size // 2)
    first, second, t, u, v, w = workspace[:, :half]
    _fill_uniform(first.view(np.uint32), bits)
    _fill_uniform(second.view(np.uint32), bits)
    radius = _radii(first.view(np.int32), t, u, v)
    radius *= np.float32(std)
    angle = t
    angle[:] = second.view(np.int32)
    angle *= np.float32(np.pi / 4 / 2**31)
    squared = np.multiply(angle, angle, out=v)
    sine = _polynomial(squared, _SIN, w)
    sine *= angle
    cosine = _polynomial(squared, _COS, t)
    # The angle is in a quarter of the circle. A rotation by an eighth and random signs extend it to the full circle.
    np.add(cosine, sine, out=v)
    np.subtract(cosine, sine, out=t)
    for rotated, random, part in ((t, first, out[:half]), (v, second, out[half:])):
        rotated *= radius
        sign = random.view(np.uint32)
        sign <<= np.uint32(31)
        signed = rotated.view(np.uint32)
        signed ^= sign
        part[:] = rotated[: part.size]


def _fill_uniform(out: Array, bits: np.random.BitGenerator) -> None:
    """Fill an array of 32-bit words (count,) with random bits."""
    for start in range(0, out.size, 2 * _WORDS_PER_DRAW):
        piece = out[start : start + 2 * _WORDS_PER_DRAW]
        piece[:] = bits.random_raw(-(-piece.size // 2)).astype("<u8", copy=False).view("<u4")[: piece.size]


def _radii(random: Array, t: Array, u: Array, v: Array) -> Array:
    """Compute sqrt(-ln x) in ``u``, for x = |k| / 2**31 with random signed integers k. Overwrites ``t`` and ``v``."""
    t[:] = random
    digits, exponent = t.view(np.int32), v.view(np.int32)
    digits &= _MAGNITUDE
    digits -= _TWO_THIRDS
    np.right_shift(digits, np.int32(23), out=exponent)
    exponent -= np.int32(31)
    digits &= _MANTISSA
    digits += _TWO_THIRDS
    t -= np.float32(1)  # the mantissa minus 1
    radius = _polynomial(t, _LOG, u)
    radius *= t
    t[:] = exponent
    t *= np.float32(-np.log(2))
    radius += t
    return np.sqrt(radius, out=radius)


def _polynomial(x: Array, coefficients: tuple[float, ...], out: Array) -> Array:
    """Evaluate a polynomial by Horner's rule, in ``out``."""
    *lower, highest = map(np.float32, coefficients)
    np.multiply(x, highest, out=out)
    for coefficient in reversed(lower[1:]):
        out += coefficient
        out *= x
    out += lower[0]
    return out
