"""SIGINT and SIGTERM as `KeyboardInterrupt`, and not lost: code in C may swallow an exception that a signal raised."""

import signal
import threading
from types import FrameType

_asked = threading.Event()


def catch_stop_signals() -> None:
    """Raise `KeyboardInterrupt` in the main thread on SIGTERM, and on SIGINT unless that is ignored or handled."""
    _asked.clear()
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def check_stop_signals() -> None:
    """Raise `KeyboardInterrupt` if a signal came since `catch_stop_signals`. For long loops, now and then."""
    if _asked.is_set():
        raise KeyboardInterrupt


def _interrupt(signal_number: int, frame: FrameType | None) -> None:
    _asked.set()
    raise KeyboardInterrupt
