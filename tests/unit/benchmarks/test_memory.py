import sys

import pytest
import torch

from benchmarks.memory import peak_of

MIB = 1024**2


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux resets the resident peak of a process")
def test_the_peak_is_that_of_the_block_and_not_of_what_came_before() -> None:
    cpu = torch.device("cpu")
    with peak_of(cpu) as large:
        torch.ones(64 * MIB).sum()
    with peak_of(cpu) as small:
        torch.ones(MIB).sum()
    assert large.highest_bytes - large.before_bytes > 200 * MIB
    assert small.highest_bytes - small.before_bytes < 100 * MIB
