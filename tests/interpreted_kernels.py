"""CUDA kernels compared with references, run by Triton's interpreter: `python tests/interpreted_kernels.py PART`.

In a process of its own, since Triton decides when it is imported whether kernels are interpreted.
"""

from __future__ import annotations

import os
import sys
import warnings

os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import torch

from auditcore.metrics import cuda_comparison
from auditcore.metrics.comparison import MaskedMaps, correlation
from auditcore.metrics.ranking import overlap
from auditcore.random_numbers import cuda_streams

PAIRS, POSITIONS, K = 9, 1500, 100


def main() -> None:
    """Run the part that the command line names."""
    # what is undefined is divided by zero
    warnings.simplefilter("ignore", RuntimeWarning)
    {"comparison": comparison, "uniform": uniform, "normal": normal}[sys.argv[1]]()


def comparison() -> None:
    """Ordinary pairs, and one of each kind that has no answer or many ties."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(PAIRS, POSITIONS, generator=generator)
    b = a + torch.randn(PAIRS, POSITIONS, generator=generator)
    b[1] = 0
    a[2, 5] = torch.nan
    a[3] = 1.0
    a[4], b[4] = (a[4] * 2).round(), (b[4] * 1.5).round()
    a[5] = a[5].clamp(min=0) * (torch.rand(POSITIONS, generator=generator) > 0.97)
    a[6], b[6] = a[6] * 1e-30, b[6] * 1e30
    a[0, 7], b[0, 9] = 1e6, -1e7
    # numbers below the normal ones, and a scale among them
    b[8] *= 1e-38
    mask = torch.rand(PAIRS, POSITIONS, generator=generator) < 0.7
    mask[7] = False
    mask[8] = torch.arange(POSITIONS) < 60
    cuda_comparison.BLOCK = 256
    for counted in (None, mask):
        found = cuda_comparison.compare_pairs(a, b, counted, K)
        before, after = MaskedMaps(a, counted), MaskedMaps(b, counted)
        agreement = overlap(before, after, K)
        expected = (correlation(before, after), agreement.values, agreement.chance)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-6, equal_nan=True)
        assert expected[0].isfinite().sum() >= 4


KEYS = [0, 1, 2**127 + 12345, 2**128 - 1, 0xDEADBEEFCAFEBABE1234567890ABCDEF]


def uniform() -> None:
    """Numbers of several keys, of lengths that fill a counter, a block, or neither."""
    for count in (1, 7, 8, 9, 1000, 8 * cuda_streams.BLOCK + 3):
        found = cuda_streams.uniform_on_device(KEYS, count, torch.device("cpu"))
        expected = [np.random.Generator(np.random.Philox(key=key)).random(count, dtype=np.float32) for key in KEYS]
        np.testing.assert_array_equal(found.numpy(), np.stack(expected))


def normal() -> None:
    """Normal numbers; the longest streams have numbers of every kind: forty tails, and wedges beside each other."""
    for count in (1, 9, 1000, 30_000):
        found = cuda_streams.normal_on_device(KEYS, count, torch.device("cpu")).numpy()
        hosts = [np.random.Generator(np.random.Philox(key=key)) for key in KEYS]
        expected = np.stack([host.standard_normal(count, dtype=np.float32) for host in hosts])
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=0)
        np.testing.assert_array_equal(
            *(np.where(abs(expected) < cuda_streams.TAIL, each, 0) for each in (found, expected))
        )
    assert (abs(expected) > cuda_streams.TAIL).sum() > 20
    assert cuda_streams.draws_as_the_host(torch.device("cpu"))


if __name__ == "__main__":
    main()
