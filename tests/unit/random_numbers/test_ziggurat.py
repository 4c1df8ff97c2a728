"""The tables of the ziggurat are those by which NumPy draws, read out of NumPy itself word by word."""

from __future__ import annotations

import ctypes
import math
import threading
from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np
import pytest

if find_spec("triton") is None:
    pytest.skip("Triton comes with torch for CUDA on Linux only", allow_module_level=True)

from auditcore.random_numbers.cuda_streams import STEPS, ziggurat

WHOLE = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p)
HALF = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p)
DOUBLE = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_void_p)
ACCEPTED = 1 << 9 | 2
"""A word that every ziggurat takes at once."""


class _Interface(ctypes.Structure):
    _fields_ = (("state", ctypes.c_void_p), ("whole", WHOLE), ("half", HALF), ("double", DOUBLE), ("raw", WHOLE))


class Scripted:
    """A bit generator, as NumPy documents its interface, that gives the words it is told."""

    def __init__(self) -> None:
        self.words: Sequence[int] = ()
        self.taken = 0
        self._functions = (WHOLE(lambda _: 0), HALF(self._next), DOUBLE(lambda _: 0.0), WHOLE(lambda _: 0))
        self._interface = _Interface(None, *self._functions)
        capsule = ctypes.pythonapi.PyCapsule_New
        capsule.restype = ctypes.py_object
        capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        self.capsule = capsule(ctypes.addressof(self._interface), b"BitGenerator", None)
        self.lock = threading.Lock()

    def _next(self, _state: object) -> int:
        self.taken += 1
        return self.words[self.taken - 1] if self.taken <= len(self.words) else ACCEPTED


@pytest.fixture(scope="module")
def scripted() -> tuple[Scripted, np.random.Generator]:
    bits = Scripted()
    return bits, np.random.Generator(bits)  # type: ignore[arg-type]


def drawn(scripted: tuple[Scripted, np.random.Generator], *words: int) -> tuple[np.float32, int]:
    """The number that some words give, and how many of them it takes."""
    bits, generator = scripted
    bits.words, bits.taken = words, 0
    return generator.standard_normal(dtype=np.float32), bits.taken


def word(number: int, step: int) -> int:
    return number << 9 | step


def test_words_are_taken_at_once_below_the_same_numbers(scripted: tuple[Scripted, np.random.Generator]) -> None:
    least, width, _ = ziggurat()
    for step in range(STEPS):
        edge = int(least[step])
        if edge:
            value, taken = drawn(scripted, word(edge - 1, step))
            assert taken == 1
            assert value == np.float32(edge - 1) * width[step]
        assert drawn(scripted, word(edge, step), 0xFFFFFF00, 0xFFFFFF00)[1] > 1


def test_wedges_are_cut_at_the_same_height(scripted: tuple[Scripted, np.random.Generator]) -> None:
    least, width, height = ziggurat()
    random = np.random.default_rng(0)
    accepted = 0
    for step in random.integers(2, STEPS, 3000).tolist():
        number, tie = int(random.integers(least[step], 1 << 23)), int(random.integers(1 << 24))
        value = np.float32(number) * width[step]
        level = (height[step - 1] - height[step]) * np.float32(tie / 2**24) + height[step]
        below = float(level) < math.exp(-0.5 * float(value) * float(value))
        found, taken = drawn(scripted, word(number, step), tie << 8)
        assert (taken == 2 and found == value) == below
        accepted += below
    assert 0.2 < accepted / 3000 < 0.8
