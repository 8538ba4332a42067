"""How many threads a training computes in.

A step of a small student is some hundred small operations, and each ends with its slowest thread. On a quiet machine several
threads gain a little. Beside another busy process the scheduler takes threads away, and then they cost many times more than
they gain. One thread is never slow.

Last digits depend on the number: a product that sums over many items, as in the gradient of the log-mass, and the sum of a
large tensor are split among the threads. So a number that is chosen by time, here by `ThreadChoice`, gives up that the same
seed gives the same student to the last bit; it is chosen only where the setting `threads` is ~. Models that are not
distilled are trained in torch's own number then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from logging import getLogger
from statistics import median
from time import perf_counter
from typing import Protocol, TypeVar, cast

import torch

TRIAL = 3  # steps with each number of threads
GAIN = 1.1  # how much faster steps must be for more threads to be worth it
SECONDS = 5.0  # between the end of a trial and the next one, at least
SHARE = 0.05  # of the time: what trials may cost

Batch = TypeVar("Batch")
Method = TypeVar("Method", bound=Callable[..., object])


@contextmanager
def computing_in(threads: int) -> Iterator[None]:
    """Let torch compute in `threads` threads; afterwards in as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def possible_threads(asked: int | None, device: torch.device) -> list[int]:
    """The numbers of threads to choose from, in rising order.

    Args:
        asked: the setting `threads`; None: 1 or torch's own number, which OMP_NUM_THREADS limits
        device: of the model. Elsewhere than on a CPU torch's own number stays
    """
    most = torch.get_num_threads()
    if device.type != "cpu":
        return [most]
    return sorted({1, most}) if asked is None else [asked]


class ThreadChoice:
    """Chooses among numbers of threads, and chooses anew while a training goes on, since other processes come and go.

    A trial takes steps with each number in turn. The fewest threads win unless more are faster by GAIN, in the median.
    The next trial comes after SECONDS, or later where this one has cost more than SHARE of the time until then.

    Args:
        possible: numbers of threads in rising order; with a single one nothing is measured
        clock: the time in seconds
    """

    def __init__(self, possible: Sequence[int], clock: Callable[[], float] = perf_counter) -> None:
        self.possible = list(possible)
        self.chosen = self.possible[0]
        self.clock = clock
        self.next_trial = clock()
        self.taken: list[float] = []  # seconds of the steps of the present trial

    def steps(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The `batches`; whoever asks for the next one has done the step of the one before, in the threads that were due."""
        for batch in batches:
            on_trial = len(self.possible) > 1 and (bool(self.taken) or self.clock() >= self.next_trial)
            torch.set_num_threads(self.possible[len(self.taken) % len(self.possible)] if on_trial else self.chosen)
            started = self.clock()
            yield batch
            if on_trial:
                self.taken.append(self.clock() - started)
                if len(self.taken) == TRIAL * len(self.possible):
                    self._choose()

    def _choose(self) -> None:
        """End the trial."""
        count = len(self.possible)
        seconds = {threads: median(self.taken[place::count]) for place, threads in enumerate(self.possible)}
        before, self.chosen = self.chosen, self.possible[0]
        for threads in self.possible[1:]:
            if seconds[threads] * GAIN <= seconds[self.chosen]:
                self.chosen = threads
        if self.chosen != before:
            times = ", ".join(f"{1000 * taken:.1f} ms in {threads}" for threads, taken in seconds.items())
            getLogger().info(f"threads: {self.chosen} from now on, a training step takes {times}")
        cost = sum(self.taken) - len(self.taken) * seconds[self.chosen]
        self.next_trial = self.clock() + max(SECONDS, cost / SHARE)
        self.taken = []


class HasThreadChoice(Protocol):
    """A trainer that may use `in_chosen_threads`."""

    thread_choice: ThreadChoice


def in_chosen_threads(method: Method) -> Method:
    """A trainer's method, done in the number of threads that its `thread_choice` has chosen."""

    @wraps(method)
    def run(trainer: HasThreadChoice, *arguments: object, **settings: object) -> object:
        with computing_in(trainer.thread_choice.chosen):
            return method(trainer, *arguments, **settings)

    return cast(Method, run)
