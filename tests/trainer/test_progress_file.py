"""When progress is written, and that what is kept for it is a copy."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole_hetcomp.trainer import progress_file
from recbole_hetcomp.trainer.progress_file import ProgressFile, on_cpu


class Clock:
    """Seconds that pass when somebody says so."""

    def __init__(self, monkeypatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(progress_file, "monotonic", lambda: self.now)

    def passes(self, seconds: float) -> dict[str, float]:
        self.now += seconds
        return {}


@given(
    writes=st.lists(st.floats(0.001, 100), min_size=200, max_size=200),
    epoch=st.floats(0.01, 50),
)
def test_writes_take_a_tenth_of_the_time_at_most_and_are_a_second_apart(writes, epoch) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(progress_file, "save_checkpoint", lambda path, state: None)
        clock, progress, done = Clock(monkeypatch), ProgressFile(Path("a.progress")), []
        for seconds in writes:
            if progress.is_due():
                begun = clock.now
                progress.write(lambda seconds=seconds: clock.passes(seconds))
                done.append((begun, clock.now))
            clock.passes(epoch)
        assert done[0][0] == 0  # the first at once
        for (begun, ended), (next_begun, _) in zip(done, done[1:]):
            assert next_begun - ended >= max(1.0, 10 * (ended - begun)) * (1 - 1e-9)
            assert next_begun - ended <= max(1.0, 10 * (ended - begun)) + epoch + 1e-6  # and no later than needed


def test_what_is_kept_is_a_copy_of_every_tensor_and_value() -> None:
    state = {"a": torch.ones(2, requires_grad=True), "b": [{"c": torch.zeros(3)}, (1, "x", None)], "d": {0: 2.5}}
    kept = on_cpu(state)
    assert not kept["a"].requires_grad
    assert kept["b"][1] == (1, "x", None)
    assert kept["d"] == {0: 2.5}
    with torch.no_grad():
        state["a"].add_(1)
        state["b"][0]["c"].add_(1)
    state["b"][0]["new"] = 1
    assert kept["a"].tolist() == [1, 1]
    assert set(kept["b"][0]) == {"c"}
    assert kept["b"][0]["c"].tolist() == [0, 0, 0]
