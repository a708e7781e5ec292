"""Noise that depends on a seed alone, the same in every library and version."""

from typing import Any

PRIME = 2**31 - 1


def seeded_noise(positions: Any, seed: int) -> Any:
    """Computes uniform noise of mean 0 and variance 1 from a seed.

    The noise is a hash of the position, three products modulo the prime 2^31 - 1 in 64-bit
    integers, so that arrays, tensors and exported graphs compute the same values.

    Args:
        positions: int64, an array of NumPy or of another library with the same operators.
        seed: an integer.

    Returns:
        One value for each position, in [-sqrt(3), sqrt(3)).

    Example:
        >>> seeded_noise(np.arange(3), seed=0)
        array([ 0.28709547,  0.82575602, -0.07507509])
    """
    x = (positions * 48271 + (seed * 69621 + 1) % PRIME) % PRIME
    for shift in (1013904223, 362437069, 521288629):
        x = x * ((x + shift) % PRIME) % PRIME
    return (x / PRIME - 0.5) * 12**0.5
