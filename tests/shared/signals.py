"""Signals of the processes that tests start."""

from __future__ import annotations

import signal


def receive_signals() -> None:
    """Let a new process receive the signals that end a command, also where what started the tests ignores them.

    A shell ignores them for what it runs in the background, as ``nohup`` does. Pass it as Popen's ``preexec_fn``.
    """
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
