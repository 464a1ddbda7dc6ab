"""What reaches the guest's console from outside: who sends it, and when.

What is sent, and at which instruction, is all that a run with input depends on beside its
configuration. A sender has its turn at four moments only: between two slices of the run, when so
many instructions have retired as it asked for; when the guest has printed a byte; when it looks
whether there is input and finds none; and when it waits, and nothing else can end that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from lab.monitor import End, EndReason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Receiver(Protocol):
    """What is used of :class:`hyp.devices.pl011.PL011`."""

    def receive(self, data: bytes) -> None:
        """Let the guest find ``data`` in its receiver."""

    def receive_break(self) -> None:
        """Let the guest find a break there."""


class Port:
    """The outer end of the guest's console, for those who send.

    Parameters
    ----------
    receiver : Receiver
        The UART.
    now : Callable[[], int]
        Returns the instructions retired so far.
    end : Callable[[End], None]
        Ends the run as soon as possible.
    is_over : Callable[[], bool]
        Whether it is to end already, for instance because of Ctrl-C.

    Attributes
    ----------
    now, is_over
        As given.
    """

    def __init__(
        self,
        receiver: Receiver,
        now: Callable[[], int],
        end: Callable[[End], None],
        is_over: Callable[[], bool],
    ) -> None:
        self._receiver, self._end, self.now, self.is_over = receiver, end, now, is_over

    def send(self, data: bytes) -> None:
        """Give the guest characters; it finds them as soon as it looks."""
        self._receiver.receive(data)

    def send_break(self) -> None:
        """Give the guest a break."""
        self._receiver.receive_break()

    def leave(self, detail: str, reason: EndReason = EndReason.LEFT) -> None:
        """End the run, for a reason in a sentence."""
        self._end(End(reason, detail))


class Input(Protocol):
    """A sender."""

    @property
    def due(self) -> int | None:
        """Its next turn, in instructions retired."""

    def connect(self, port: Port) -> None:
        """Take the console; called once, before the guest starts."""

    def printed(self, data: bytes) -> None:
        """Take note of what the guest has just printed."""

    def looked(self) -> None:
        """Have a turn because the guest looks for input and there is none."""

    def act(self) -> None:
        """Have a turn, when it is due."""

    def wait(self) -> bool:
        """Have a turn because the guest waits, and nothing else can end that.

        Returns
        -------
        bool
            False if nothing will ever come from here. True if something did, or the run is
            to end.
        """

    def unfinished(self) -> str:
        """Return what has not happened though it should have; empty if all did."""

    def again(self) -> Input:
        """Return one that sends the same at the same moments."""


class Inputs:
    """Several senders as one.

    Parameters
    ----------
    senders : Sequence[Input]
        In the order in which they have their turns.
    """

    def __init__(self, senders: Sequence[Input]) -> None:
        self._senders = tuple(senders)
        self._open = self._senders

    def __bool__(self) -> bool:
        """Whether there is anybody."""
        return bool(self._senders)

    @property
    def due(self) -> int | None:
        """The next turn of any of them, in instructions retired."""
        due = [sender.due for sender in self._open if sender.due is not None]
        return min(due, default=None)

    def connect(self, port: Port) -> None:
        """Give all of them the console."""
        for sender in self._senders:
            sender.connect(port)

    def printed(self, data: bytes) -> None:
        """Tell all of them what the guest printed."""
        for sender in self._open:
            sender.printed(data)

    def looked(self) -> None:
        """Give all of them a turn because the guest looks for input."""
        for sender in self._open:
            sender.looked()

    def act(self) -> None:
        """Give those a turn for whom it is time."""
        due = self.due
        for sender in self._open:
            if sender.due == due:
                sender.act()

    def wait(self) -> bool:
        """Give one of them a turn because the guest waits; return whether there was one."""
        return any(sender.wait() for sender in self._open)

    def close(self) -> None:
        """Let nobody send anything any more."""
        self._open = ()

    def unfinished(self) -> str:
        """Return what has not happened though it should have; empty if all did."""
        return "; ".join(filter(None, (sender.unfinished() for sender in self._senders)))

    def again(self) -> tuple[Input, ...]:
        """Return senders that do the same."""
        return tuple(sender.again() for sender in self._senders)
