"""A process as others see it, told apart from a later one that has got its number."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

import psutil

TOLERANCE = 2  # seconds within which two starts are one


@dataclass(frozen=True)
class Process:
    """A process of any machine.

    Attributes:
        host: the machine's name
        pid: its number there
        started: seconds from the machine's start to its own, which no change of the clock moves
    """

    host: str
    pid: int
    started: int

    @classmethod
    def current(cls) -> Process:
        """This process."""
        pid = os.getpid()
        return cls(socket.gethostname(), pid, _started(psutil.Process(pid)))

    @property
    def is_here(self) -> bool:
        """Whether it is or was a process of this machine."""
        return self.host == socket.gethostname()

    @property
    def is_gone(self) -> bool:
        """Whether it is known to have ended; of a process of another machine nothing is known."""
        if not self.is_here:
            return False
        try:
            process = psutil.Process(self.pid)
            return process.status() == psutil.STATUS_ZOMBIE or abs(_started(process) - self.started) > TOLERANCE
        except psutil.NoSuchProcess:
            return True
        except psutil.Error:  # it is there, and another user's
            return False


def _started(process: psutil.Process) -> int:
    boot = psutil.boot_time()  # asked first: older versions of psutil count `create_time` from what this has found
    return round(process.create_time() - boot)
