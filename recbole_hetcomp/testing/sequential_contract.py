"""What every distillation method must do for a student that is asked by sequences, or refuse."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from recbole_hetcomp.commands.pipeline import run_hetcomp
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.registry import get_model
from recbole_hetcomp.testing.interruption import interrupt
from recbole_hetcomp.testing.results import same, saved_state, serves_alike, state_of, trained_twice
from recbole_hetcomp.trainer import progress_file

TRAINING = {
    "epochs": 3,
    "eval_step": 1,
    "stopping_step": 10,
    "train_batch_size": 256,
    "learning_rate": 0.01,
    "weight_decay": 0,
}
COLUMNS = ["user_id", "item_id", "timestamp"]
SMALL = {"embedding_size": 8, "hidden_size": 8, "inner_size": 8, "MAX_ITEM_LIST_LENGTH": 10}
TEACHER = {"epochs": 2, "eval_step": 1, "train_batch_size": 256, "embedding_size": 8}


class SequentialContract:
    """Holds `method` to what every method does for a GRU4Rec, with a sequential and a general teacher.

    Attributes:
        method: the name of its class
        settings_of_method: what it is run with, such as teachers that it can learn from
        student: of a method that has one student alone
        settings_of_student: what that is run with, also without the method
    """

    method: ClassVar[str]
    settings_of_method: ClassVar[Mapping[str, Any]] = {}
    student: ClassVar[str] = "GRU4Rec"
    settings_of_student: ClassVar[Mapping[str, Any]] = {}

    @pytest.fixture
    def run(self, settings: dict[str, Any]) -> Callable[..., dict[str, Any]]:
        """`run(model, **settings)`: RecBole's result of a short run on `toy`, without the student alone."""

        def start(model: str, **changes: object) -> dict[str, Any]:
            config: dict[str, Any] = {**settings, **TRAINING, **SMALL, "curriculum_period": 1, "without_distillation": False}
            config |= {"student": self.student, "teachers": ["SASRec", "BPR"], "load_col": {"inter": COLUMNS}}
            config |= {**self.settings_of_student, **(self.settings_of_method if model == self.method else {}), **changes}
            config["teacher_config"] = {"all": TEACHER, "SASRec": {"hidden_size": 8, "inner_size": 8}}
            return run_hetcomp(model, "toy", config_dict=config, arguments=(), compare=False)

        return start

    @pytest.fixture
    def defined(self) -> None:
        """Skips what a method that refuses such students need not do."""
        if "sequential" not in get_model(self.method).families:
            pytest.skip(f"{self.method} refuses students that are asked by sequences")

    def test_it_learns_from_teachers_of_both_families_or_refuses(self, run: Callable[..., dict[str, Any]]) -> None:
        """Twice to the same bits, and no file of a teacher changes."""
        if "sequential" not in get_model(self.method).families:
            with pytest.raises(UserError, match="asked by sequences"):
                run(self.method)
            assert not (Path("saved") / "trained").exists()
            return
        first = trained_twice(lambda: run(self.method))
        assert 0 < first["test_result"]["recall@10"] <= 1

    @pytest.mark.usefixtures("defined")
    def test_without_its_weight_it_is_plain_training_bit_for_bit(self, run: Callable[..., dict[str, Any]]) -> None:
        """With weight 0 and a base loss the student is the one that is trained alone; with a weight it is another."""
        with_loss = {"base_loss_weight": 1.0, "user_batches": False}
        switched_off = run(self.method, distillation_weight=0.0, **with_loss)
        assert same(state_of(switched_off), state_of(run(self.student, points_per_user=4)))
        weight = {} if self.method == "CompositeStudent" else {"distillation_weight": 1.0}
        assert not same(state_of(run(self.method, **with_loss, **weight)), state_of(switched_off))

    @pytest.mark.usefixtures("defined")
    def test_the_saved_student_serves_without_teachers(self, run: Callable[..., dict[str, Any]]) -> None:
        """The file holds the backbone's tensors alone, and the student read from it has the trained one's scores."""
        result = run(self.method)
        assert all(name.startswith("backbone.") for name in saved_state(result))
        assert serves_alike(result)

    @pytest.mark.usefixtures("defined")
    def test_an_interrupted_training_ends_as_an_uninterrupted_one(
        self, run: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Stopped after the second epoch and started again, it ends with the same bits."""
        monkeypatch.setattr(progress_file, "pause_after", lambda seconds: 0.0)
        whole = run(self.method, checkpoint_dir="whole")
        interrupt(lambda: run(self.method), after=2)
        assert list(Path("saved").glob("*.progress"))
        assert same(state_of(run(self.method)), state_of(whole))
