"""What every method that distils predictions of clicks must do: inherited by one test class a method."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import yaml

from recbole_hetcomp.commands.checks import check
from recbole_hetcomp.commands.pipeline import run_hetcomp
from recbole_hetcomp.config import Config
from recbole_hetcomp.config.declarations import declarations_in
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.registry import get_model, own_properties_of
from recbole_hetcomp.serving.student import load_with_split
from recbole_hetcomp.testing.clicks import clicks_settings, write_clicks
from recbole_hetcomp.testing.fixtures import OwnFolder
from recbole_hetcomp.testing.interruption import interrupt
from recbole_hetcomp.testing.results import same, saved_state, state_of, trained_twice
from recbole_hetcomp.testing.wrong_values import wrong_values
from recbole_hetcomp.trainer import progress_file

TEACHERS = {"one": ["DeepFM"], "three kinds": ["FM", "DCNV2", "AutoInt"]}


class ContextContract(OwnFolder):
    """Holds `method` to what every method does for context-aware students.

    Attributes:
        method: the name of its class
        settings_of_method: what it is run with, such as epochs in which it distils
    """

    method: ClassVar[str]
    settings_of_method: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    def settings(self, tmp_path: Path) -> dict[str, Any]:
        """A config_dict for `clicks`, whose files are written to the test's own folder."""
        return {**clicks_settings(write_clicks(tmp_path / "clicks-data"), tmp_path / "saved"), "student": "FM"}

    @pytest.fixture
    def run(self, settings: dict[str, Any]) -> Callable[..., dict[str, Any]]:
        """`run(model, **settings)`: RecBole's result of a short run on `clicks`, without the student alone."""

        def start(model: str, **changes: object) -> dict[str, Any]:
            own = self.settings_of_method if model == self.method else {}
            return run_hetcomp(model, "clicks", config_dict={**settings, **own, **changes}, arguments=(), compare=False)

        return start

    def test_every_setting_of_its_yaml_file_has_a_kind_and_a_meaning(self) -> None:
        """A setting whose comment begins with no kind is not declared, so that nothing would check it."""
        path = own_properties_of(get_model(self.method))
        assert path is not None, f"{self.method} has no yaml file"
        assert list(declarations_in(path)) == list(yaml.safe_load(path.read_text(encoding="utf-8")))
        assert all(declaration.meaning for declaration in declarations_in(path).values())

    def test_what_a_setting_cannot_be_is_refused_before_any_teacher_is_trained(self, settings: dict[str, Any]) -> None:
        """In a sentence that begins with the setting's name."""
        path = own_properties_of(get_model(self.method))
        assert path is not None
        config = Config(self.method, "clicks", config_dict={**settings, **self.settings_of_method}, arguments=())
        check(config)
        for key, declaration in declarations_in(path).items():
            default = config[key]
            for value in wrong_values(declaration.kind):
                config[key] = value
                with pytest.raises(UserError, match=f"^{key}: "):
                    check(config)
            config[key] = default

    @pytest.mark.parametrize("teachers", [["BPR"], ["FM", "SASRec"], ["lists.tsv"], ["HetCompStudent"]])
    def test_teachers_that_predict_no_clicks_are_refused(
        self, run: Callable[..., dict[str, Any]], teachers: list[str]
    ) -> None:
        """Before any of them is trained."""
        Path("lists.tsv").write_text("user\titem\trank\nu1\ti1\t1\n", encoding="utf-8")
        with pytest.raises(UserError, match=r"^teachers: "):
            run(self.method, teachers=teachers)
        assert not (Path("saved") / "trained").exists()

    @pytest.mark.parametrize("teachers", TEACHERS)
    def test_it_trains_from_any_teachers_and_leaves_them_as_they_are(
        self, run: Callable[..., dict[str, Any]], teachers: str
    ) -> None:
        """Twice to the same bits, and no file of a teacher changes."""
        first = trained_twice(lambda: run(self.method, teachers=TEACHERS[teachers]))
        assert 0.5 < first["test_result"]["auc"] <= 1

    def test_without_its_weight_it_is_plain_training_bit_for_bit(self, run: Callable[..., dict[str, Any]]) -> None:
        """With weight 0 the student is the one that is trained alone; with a weight it is another."""
        switched_off = run(self.method, distillation_weight=0.0, base_loss_weight=1.0)
        assert same(state_of(switched_off), state_of(run("FM")))
        assert not same(state_of(run(self.method)), state_of(switched_off))

    @pytest.mark.parametrize("student", ["FM", "DeepFM", "DAGFM"])
    def test_the_saved_student_is_the_backbone_and_predicts_without_teachers(
        self, run: Callable[..., dict[str, Any]], student: str
    ) -> None:
        """The file holds the backbone's tensors alone, and the student read from it predicts as the trained one."""
        result = run(self.method, student=student)
        model, saved = result["model"], saved_state(result)
        assert all(name.startswith("backbone.") for name in saved)
        assert {name.removeprefix("backbone.") for name in saved} == set(model.backbone.state_dict())
        assert sum(tensor.numel() for tensor in model.parameters()) == sum(tensor.numel() for tensor in saved.values())
        _, served, split = load_with_split(result["checkpoint"], arguments=())
        rows = split.parts[2][torch.arange(20)]
        assert torch.equal(served.predict(rows), model.eval().predict(rows))

    @pytest.mark.parametrize("student", ["FM", "DAGFM", "DeepFM"])
    def test_an_interrupted_training_ends_as_an_uninterrupted_one(
        self, run: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, student: str
    ) -> None:
        """Stopped in its first phase and in its second, and started again, it ends with the same bits."""
        monkeypatch.setattr(progress_file, "pause_after", lambda seconds: 0.0)
        settings = {"student": student, "share_tables": True}
        whole = run(self.method, **settings, checkpoint_dir="whole")
        for epochs in (1, 3):
            interrupt(lambda: run(self.method, **settings), after=epochs)
            assert list(Path("saved").glob("*.progress"))
        assert same(state_of(run(self.method, **settings)), state_of(whole))
