import os
import signal
import threading

from lab.interrupts import Interrupt, catch_interrupt


def test_ctrl_c_sets_the_flag_and_calls_back() -> None:
    calls: list[bool] = []
    interrupt = Interrupt()
    with catch_interrupt(interrupt, lambda: calls.append(True)):
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.requested
    assert calls == [True]


def test_the_previous_handler_comes_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    interrupt = Interrupt()
    with catch_interrupt(interrupt):
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
    assert not interrupt.requested


def test_outside_the_main_thread_no_signal_is_caught() -> None:
    flags: list[bool] = []

    def run() -> None:
        interrupt = Interrupt()
        with catch_interrupt(interrupt):
            flags.append(interrupt.requested)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert flags == [False]
