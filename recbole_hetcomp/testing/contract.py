"""What every distillation method must do, whoever wrote it: inherited by one test class a method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import yaml
from recbole.model.abstract_recommender import AbstractRecommender
from torch.nn.utils import parametrize

from recbole_hetcomp.commands.checks import check
from recbole_hetcomp.commands.pipeline import run_hetcomp
from recbole_hetcomp.config import Config
from recbole_hetcomp.config.declarations import Declaration, declarations_in
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.registry import get_model, own_properties_of
from recbole_hetcomp.config.strict import settings_of
from recbole_hetcomp.data.split import Split
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.distilled_recommender.compositestudent import CompositeStudent
from recbole_hetcomp.model.embedding_student import EmbeddingStudent
from recbole_hetcomp.model.student import DistilledRecommender
from recbole_hetcomp.testing.interruption import interrupt
from recbole_hetcomp.testing.parts_of_a_batch import PartsOfABatch
from recbole_hetcomp.testing.results import same, saved_state, serves_alike, state_of, trained_twice
from recbole_hetcomp.testing.wrong_values import longer_than_the_catalogue, wrong_values
from recbole_hetcomp.trainer import progress_file

TRAINING = {
    "epochs": 4,
    "eval_step": 1,
    "stopping_step": 10,
    "train_batch_size": 128,
    "learning_rate": 0.01,
    "weight_decay": 0.0,
}
TEACHERS = {"one": ["LightGCN"], "three kinds": ["BPR", "NeuMF", "MultiVAE"], "without embeddings": ["EASE"]}


class MethodContract(PartsOfABatch):
    """Holds `method` to what every method does; a subclass names it, and says where its definition makes it an exception.

    Attributes:
        method: the name of its class
        any_student: settings with which a student that has no vectors can learn by it
        observed_candidates: first items of those it asks the student's scores of that are training items by definition
    """

    method: ClassVar[str]
    any_student: ClassVar[Mapping[str, Any]] = {}
    observed_candidates: ClassVar[int] = 0

    @pytest.fixture
    def run(self, settings: dict[str, Any]) -> Callable[..., dict[str, Any]]:
        """`run(model, **settings)`: RecBole's result of a short run on `toy`, without the student alone."""

        def start(model: str, **changes: object) -> dict[str, Any]:
            config = {**settings, **TRAINING, "curriculum_period": 1, "without_distillation": False, **changes}
            config["teacher_config"] = {"all": {"epochs": 2, "embedding_size": 8, "train_batch_size": 256, "eval_step": 1}}
            return run_hetcomp(model, "toy", config_dict=config, arguments=(), compare=False)

        return start

    @property
    def declarations(self) -> Mapping[str, Declaration]:
        """What the method's own yaml file says of its settings."""
        path = own_properties_of(get_model(self.method))
        assert path is not None, f"{self.method} has no yaml file"
        return declarations_in(path)

    @property
    def is_composite(self) -> bool:
        """Whether the method is made of others, and so no part of a composite."""
        return issubclass(get_model(self.method), CompositeStudent)

    def test_every_setting_of_its_yaml_file_has_a_kind_and_a_meaning(self) -> None:
        """A setting whose comment begins with no kind is not declared, so that nothing would check it."""
        path = own_properties_of(get_model(self.method))
        assert path is not None, f"{self.method} has no yaml file"
        assert list(self.declarations) == list(yaml.safe_load(path.read_text(encoding="utf-8")))
        assert all(declaration.meaning for declaration in self.declarations.values())

    def test_what_a_setting_cannot_be_is_refused_before_any_teacher_is_trained(
        self, make_config: Callable[..., Config], split: Split
    ) -> None:
        """By `check`, and by the model itself, in a sentence that begins with the setting's name."""
        config = make_config(self.method)
        check(config)
        for key, declaration in self.declarations.items():
            default = config[key]
            for value in wrong_values(declaration.kind):
                config[key] = value
                with pytest.raises(UserError, match=f"^{key}: "):
                    check(config)
                with pytest.raises(UserError, match=f"^{key}: "):  # also where the model alone is made
                    config.model_class(settings_of(config), split.train)
            config[key] = default
        assert not (Path("saved") / "trained").exists()

    @pytest.mark.parametrize("teachers", TEACHERS)
    def test_it_trains_from_any_teachers_and_leaves_them_as_they_are(
        self, run: Callable[..., dict[str, Any]], teachers: str
    ) -> None:
        """One, three kinds, or none with vectors: twice to the same bits, and no file of a teacher changes."""
        first = trained_twice(lambda: run(self.method, teachers=TEACHERS[teachers]))
        assert 0 < first["test_result"]["recall@10"] <= 1

    def test_without_its_weight_it_is_plain_training_bit_for_bit(self, run: Callable[..., dict[str, Any]]) -> None:
        """With weight 0 and a base loss the student is the one that MF becomes alone; with a weight it is another."""
        switched_off = run(self.method, distillation_weight=0.0, base_loss_weight=1.0, user_batches=False)
        assert same(state_of(switched_off), state_of(run("MF")))
        weight = {} if run(self.method)["model"].base_loss_weight == 0 else {"distillation_weight": 1.0}
        assert not same(state_of(run(self.method, **weight)), state_of(switched_off))

    def test_a_student_of_recboles_own_learns_from_teachers_beside_its_own_loss(
        self, run: Callable[..., dict[str, Any]]
    ) -> None:
        """LightGCN's loss has the shape [1]."""
        settings = {"student": "LightGCN", "base_loss_weight": 1.0, "user_batches": False, "epochs": 2}
        weight = {} if self.is_composite else {"distillation_weight": 1.0}
        taught = run(self.method, **settings, **self.any_student, **weight)
        alone = run("LightGCN", epochs=2)
        assert state_of(taught).keys() == state_of(alone).keys()
        assert not same(state_of(taught), state_of(alone))

    def test_the_saved_student_is_the_backbone_and_serves_without_teachers(
        self, run: Callable[..., dict[str, Any]], make_model: Callable[..., AbstractRecommender]
    ) -> None:
        """The file holds the backbone's tensors alone, and the student read from it has the trained one's scores."""
        result = run(self.method)
        saved = saved_state(result)
        assert {name.removeprefix("backbone.") for name in saved} == set(make_model("MF").state_dict())
        assert all(name.startswith("backbone.") for name in saved)
        trained = sum(tensor.numel() for tensor in result["model"].parameters())
        assert trained == sum(tensor.numel() for tensor in saved.values())
        assert serves_alike(result)

    def test_an_interrupted_training_ends_as_an_uninterrupted_one(
        self, run: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Stopped after the third epoch and started again, it ends with the same bits."""
        monkeypatch.setattr(progress_file, "pause_after", lambda seconds: 0.0)
        whole = run(self.method, checkpoint_dir="whole")
        interrupt(lambda: run(self.method), after=3)
        assert list(Path("saved").glob("*.progress"))
        assert same(state_of(run(self.method)), state_of(whole))

    def test_lists_alone_are_enough_or_are_refused_before_training_where_scores_are_needed(
        self, run: Callable[..., dict[str, Any]], make_model: Callable[..., AbstractRecommender], split: Split
    ) -> None:
        """A teacher may be a file, unless the method's `needs` say that it takes scores."""
        tokens = (split.whole.field2id_token[field] for field in ("user_id", "item_id"))
        users, items = (list(map(str, part))[1:] for part in tokens)
        rows = [f"{user}\t{item}\t{rank}" for user in users for rank, item in enumerate(items)]
        Path("lists.tsv").write_text("user\titem\trank\n" + "\n".join(rows) + "\n", encoding="utf-8")
        if not make_model(self.method).needs.scores:
            assert 0 < run(self.method, teachers=["lists.tsv"])["test_result"]["recall@10"] <= 1
            return
        for teachers in (["lists.tsv"], ["BPR", "lists.tsv"]):
            with pytest.raises(UserError, match=f"{self.method} needs a teacher's scores"):
                run(self.method, teachers=teachers)
        assert not (Path("saved") / "trained").exists()

    def test_the_curriculum_leads_methods_that_learn_lists_and_is_refused_by_the_others(
        self, run: Callable[..., dict[str, Any]], make_model: Callable[..., AbstractRecommender]
    ) -> None:
        """Whether it learns lists is what its `needs` say."""
        guide = {"guide": "teacher"} if "guide" in self.declarations else {}  # of methods that have one
        if make_model(self.method).needs.trajectories:
            assert run(self.method, curriculum=True, **guide)["test_result"]
        else:
            with pytest.raises(UserError, match="curriculum: True"):
                run(self.method, curriculum=True)

    def test_no_candidate_is_a_training_item(
        self, run: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Neither of the items whose scores it asks for, nor of those in its lists."""
        asked, observed = [], self.observed_candidates
        pair_scores = DistilledRecommender.pair_scores

        def watched(model: DistilledRecommender, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
            asked.append(bool(model.history.contains(users[:, None].cpu(), items[:, observed:].cpu()).any()))
            return pair_scores(model, users, items)

        monkeypatch.setattr(DistilledRecommender, "pair_scores", watched)
        model = run(self.method, epochs=2)["model"]
        for part in (model, *getattr(model, "parts", {}).values()):
            if part.lists is not None:
                users = part.history.active_users
                asked.append(bool(part.history.contains(users[:, None], part.lists.on_cpu[users]).any()))
        assert asked or isinstance(model, EmbeddingStudent)  # which may have no candidates at all
        assert not any(asked)

    def test_padding_learns_nothing(self, run: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
        """All lists and draws are longer here than what a user has not seen, so that they end in padding."""
        method: type[DistilledRecommender] = get_model(self.method)
        distillation_loss = method.distillation_loss
        learnt: list[bool] = []

        def watched(model: DistilledRecommender, batch: Batch) -> torch.Tensor:
            with parametrize.cached():  # so that a table that is a function is one tensor here and in the loss
                loss: torch.Tensor = distillation_loss(model, batch)
                made = [each.weight for each in model.backbone.modules() if parametrize.is_parametrized(each, "weight")]
                given = [table for table in model.backbone.parameters() if len(table) in (model.n_users, model.n_items)]
                gradients = torch.autograd.grad(loss, [*given, *made], retain_graph=True, allow_unused=True)
            learnt.extend(bool(gradient[0].any()) for gradient in gradients if gradient is not None)
            return loss

        monkeypatch.setattr(method, "distillation_loss", watched)
        run(self.method, epochs=2, trajectory_depth=100, **longer_than_the_catalogue(self.method))
        assert learnt
        assert not any(learnt)

    def test_within_a_composite_it_teaches_and_the_student_is_saved_as_by_itself(
        self, run: Callable[..., dict[str, Any]], make_model: Callable[..., AbstractRecommender]
    ) -> None:
        """A composite is refused as a part of another."""
        composite = {"methods": {self.method.removesuffix("Student"): 1.0}, "base_loss_weight": 1.0, "user_batches": False}
        if self.is_composite:
            with pytest.raises(UserError, match="is no single distillation method"):
                run("CompositeStudent", **composite)
            return
        result = run("CompositeStudent", **composite)
        assert {name.removeprefix("backbone.") for name in saved_state(result)} == set(make_model("MF").state_dict())
        assert not same(state_of(result), state_of(run("MF")))
        assert serves_alike(result)
