"""How the part that measures throughput divides its time, and which batch it compiles."""

from gpu.bare_speed import chosen_batch
from gpu.throughput import mode_for


def test_the_first_combination_is_compiled_and_later_ones_if_it_fits() -> None:
    assert mode_for(10.0, compile_s=15.0, first=True) == "compiled"
    # 8 s bare, 4 rows of 2.5 + 1 s, 3 compilations
    assert mode_for(22.1 + 45, compile_s=15.0, first=False) == "compiled"
    assert mode_for(21.9 + 45, compile_s=15.0, first=False) == "graphs"
    assert mode_for(22.1, compile_s=15.0, first=False) == "graphs"
    assert mode_for(21.9, compile_s=15.0, first=False) == "skipped"


def test_a_smaller_batch_is_taken_unless_a_larger_one_is_clearly_faster() -> None:
    assert chosen_batch({64: 990.0, 128: 1000.0}) == 64
    assert chosen_batch({64: 970.0, 128: 1000.0, 256: 995.0}) == 128
