"""Ctrl-C that cannot get lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def remembering_ctrl_c() -> Iterator[Callable[[], None]]:
    """Remember Ctrl-C while the context lasts.

    Python raises KeyboardInterrupt wherever the process is. If that is inside a destructor or a callback of a library,
    such as while torch is imported, the exception is printed and ignored, and the command would go on.

    Yields:
        A function to call between steps of the work.

    Raises:
            KeyboardInterrupt: Ctrl-C was pressed and the work went on nevertheless.
    """
    pressed = False

    def press(_number: int, _frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        raise KeyboardInterrupt

    def check() -> None:
        if pressed:
            raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    # an application that has a handler of its own keeps it; only the main thread may set one
    if before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield check
        return
    signal.signal(signal.SIGINT, press)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def noting_ctrl_c() -> Iterator[Callable[[], bool]]:
    """Note Ctrl-C instead of raising KeyboardInterrupt, so that a step of the work is finished; the second one raises.

    Yields:
        Whether Ctrl-C was pressed.
    """
    pressed = False

    def press(_number: int, _frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, press)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)
