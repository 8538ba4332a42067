"""The student around any RecBole backbone: gradients through its scores, and no state but the backbone's."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from recbole.utils import InputType, init_seed
from torch import Tensor

from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.student import DistilledRecommender
from recbole_hetcomp.trainer.checkpoint import plain_state

BACKBONES = ["MF", "ML", "DL", "BPR", "LightGCN", "NeuMF"]
SMALL = {"mf_embedding_size": 8, "mlp_embedding_size": 8, "mlp_hidden_size": [8], "dropout_prob": 0.0, "curriculum": False}


class SumOfSquares(DistilledRecommender):
    """The smallest method there can be; remembers the batches it was given."""

    def distillation_loss(self, batch: Batch) -> Tensor:
        self.seen = [*vars(self).get("seen", []), batch]
        return self.scores(batch.users).square().sum(1).mean()


def build(make_config, split, student: str, **overrides) -> SumOfSquares:
    config = make_config("HetCompStudent", student=student, **{**SMALL, **overrides})
    init_seed(3, True)
    return SumOfSquares(config, split.train)


def step(model: SumOfSquares, batch: Interaction, rate: float = 0.5) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    optimizer.zero_grad()
    loss = model.calculate_loss(batch)
    (sum(loss) if isinstance(loss, tuple) else loss).backward()
    optimizer.step()


def users(*ids: int) -> Interaction:
    return Interaction({"user_id": torch.tensor(ids)})


@pytest.mark.parametrize("student", BACKBONES)
def test_scores_carry_gradients_to_every_parameter_that_ranks(make_config, split, student):
    model = build(make_config, split, student)
    scores = model.scores(torch.tensor([1, 5, 7]))
    assert scores.shape == (3, model.n_items)
    scores.square().sum().backward()
    reached = {name for name, parameter in model.named_parameters() if parameter.grad is not None and parameter.grad.any()}
    assert any("user" in name for name in reached)
    assert any("item" in name for name in reached)


@pytest.mark.parametrize("student", BACKBONES)
def test_predict_and_full_sort_predict_are_the_backbones(make_config, split, student):
    model = build(make_config, split, student).eval()
    pairs = Interaction({"user_id": torch.tensor([1, 5, 7]), "item_id": torch.tensor([2, 9, 30])})
    assert torch.equal(model.predict(pairs), model.backbone.predict(pairs))
    rows = model.scores(pairs["user_id"])
    assert torch.allclose(rows.gather(1, pairs["item_id"][:, None]).squeeze(1), model.predict(pairs).view(-1), atol=1e-5)


@pytest.mark.parametrize("student", ["LightGCN", "NGCF", "BPR"])
def test_no_evaluation_cache_outlives_a_step(make_config, split, student):
    overrides = {"hidden_size_list": [8], "node_dropout": 0.0, "message_dropout": 0.0} if student == "NGCF" else {}
    model = build(make_config, split, student, **overrides)
    model.eval()
    before = model.full_sort_predict(users(1, 2)).clone()
    model.train()
    step(model, users(1, 2, 3))
    model.eval()
    after = model.full_sort_predict(users(1, 2)).detach()
    fresh = build(make_config, split, student, **overrides).eval()
    fresh.load_state_dict(model.state_dict())
    assert not torch.allclose(after, before)
    assert torch.equal(after, fresh.full_sort_predict(users(1, 2)).detach())


def test_scores_after_scores_hold_no_old_graph(make_config, split):
    model = build(make_config, split, "LightGCN")
    for _ in range(3):  # a kept graph would be freed by the first backward and fail in the second
        step(model, users(1, 2))
    assert not any(isinstance(vars(model.backbone)[name], Tensor) for name in ("restore_user_e", "restore_item_e"))


@pytest.mark.parametrize("student", ["EASE", "Pop", "ItemKNN"])
def test_a_student_that_is_not_trained_by_gradients_is_refused(make_config, student):
    with pytest.raises(UserError, match=rf"^student: {student} has no scores that can be trained; choose MF"):
        make_config("HetCompStudent", student=student)


def test_a_student_whose_scores_are_cut_off_from_its_parameters_is_refused(make_config, split, monkeypatch):
    model = build(make_config, split, "MF")
    rank = type(model.backbone).full_sort_predict
    monkeypatch.setattr(type(model.backbone), "full_sort_predict", lambda *given: rank(*given).detach())
    with pytest.raises(UserError, match="student: MF has no scores that can be trained"):
        model.check_trainable()


@pytest.mark.parametrize("student", BACKBONES)
def test_a_student_that_can_be_trained_is_not_refused__and_nothing_is_drawn(make_config, split, student):
    model = build(make_config, split, student)
    state = torch.get_rng_state()
    model.check_trainable()
    assert torch.equal(torch.get_rng_state(), state)


def test_probing_a_student_moves_nothing(make_config, split, monkeypatch):
    """Neither BatchNorm's running statistics, which a call in training mode moves, nor the mode, nor any random state."""
    model = build(make_config, split, "MF")
    model.backbone.norm = torch.nn.BatchNorm1d(model.n_items)
    model.backbone.dropout = torch.nn.Dropout(0.5)
    rank = type(model.backbone).full_sort_predict
    monkeypatch.setattr(
        type(model.backbone),
        "full_sort_predict",
        lambda own, users: own.dropout(own.norm(rank(own, users).view(-1, own.n_items))),
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    model.check_trainable()
    assert model.training
    assert "backbone.norm.running_mean" in before
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()
    assert random.getstate() == states[2]


@pytest.mark.parametrize("student", ["DIN", "DeepFM", "HetCompStudent"])
def test_only_recommenders_of_items_can_be_students(make_config, student):
    with pytest.raises(UserError, match=f"^student: '{student}' is no general recommender"):
        make_config("HetCompStudent", student=student)


@pytest.mark.parametrize("student", BACKBONES)
def test_saved_state_is_the_backbones_alone(make_config, split, student):
    model = build(make_config, split, student)
    state = plain_state(model)["state_dict"]
    assert set(state) == {f"backbone.{name}" for name in model.backbone.state_dict()}


def test_method_on_top_adds_no_parameter(make_config, split):
    alone = make_config("MF", embedding_size=8)
    from recbole_hetcomp.model.general_recommender.mf import MF

    expected = sum(parameter.numel() for parameter in MF(alone, split.train).parameters())
    assert sum(parameter.numel() for parameter in build(make_config, split, "MF").parameters()) == expected


def test_without_a_base_loss_batches_are_of_users_with_training_items(make_config, split):
    model = build(make_config, split, "MF")
    field, ids = model.training_entities
    assert field == "user_id"
    assert ids.tolist() == sorted(set(split.train.inter_feat["user_id"].tolist()))
    loss = model.calculate_loss(users(4, 2, 9))
    assert isinstance(loss, Tensor)
    assert model.seen[-1].users.tolist() == [2, 4, 9]
    assert model.seen[-1].items is None


def test_a_user_counts_once_in_a_batch_of_interactions(make_config, split):
    model = build(make_config, split, "MF", user_batches=False)
    assert model.training_entities is None
    ids = {"user_id": [4, 2, 4, 4], "item_id": [8, 8, 3, 1], "neg_item_id": [9, 1, 9, 5]}
    model.calculate_loss(Interaction({name: torch.tensor(values) for name, values in ids.items()}))
    assert model.seen[-1].users.tolist() == [2, 4]
    assert model.seen[-1].items.tolist() == [1, 3, 5, 8, 9]


@pytest.mark.parametrize("student", ["MF", "BPR", "LightGCN"])
def test_a_base_loss_comes_first_and_weighted__then_the_distillation_loss(make_config, split, student):
    model = build(make_config, split, student, base_loss_weight=0.25)
    assert model.training_entities is None
    loader = split.loaders(make_config("HetCompStudent", student=student, base_loss_weight=0.25)).train
    batch = next(iter(loader))
    assert {"user_id", "item_id", "neg_item_id"} <= set(batch.columns)
    base, distillation = model.calculate_loss(batch)
    assert torch.allclose(base, 0.25 * model.backbone.calculate_loss(batch))
    assert torch.allclose(distillation, model.distillation_loss(Batch(batch["user_id"].unique(), None)))


def test_negatives_are_drawn_as_the_backbone_wants_them(make_config):
    assert make_config("HetCompStudent", student="NeuMF")["MODEL_INPUT_TYPE"] == InputType.POINTWISE
    assert make_config("HetCompStudent", student="LightGCN")["MODEL_INPUT_TYPE"] == InputType.PAIRWISE


def test_loading_parameters_drops_what_an_evaluation_of_others_left(make_config, split) -> None:
    """LightGCN keeps the embeddings of its last evaluation; the best epoch's parameters must not be scored by the last's."""
    config = make_config("HetCompStudent", student="LightGCN")
    student = config.model_class(config, split.train).eval()
    users = Interaction({student.USER_ID: split.history.active_users[:5]})
    best = {name: value.clone() for name, value in student.state_dict().items()}
    of_best = student.full_sort_predict(users).clone()
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(torch.randn_like(parameter))
    student.load_state_dict(student.state_dict())
    of_last = student.full_sort_predict(users).clone()
    student.load_state_dict(best)
    assert torch.equal(student.full_sort_predict(users), of_best)
    assert not torch.allclose(of_best, of_last)


def test_a_backbone_whose_scores_do_not_reach_all_parameters_is_refused(make_config, split) -> None:
    config = make_config("HetCompStudent", student="ItemVAE")
    with pytest.raises(UserError, match="ItemVAE has no scores that can be trained"):
        config.model_class(config, split.train).check_trainable()


@pytest.mark.parametrize("student", [*BACKBONES, "MultiVAE"])
def test_single_scores_are_those_of_the_whole_row(make_config, split, student) -> None:
    model = build(make_config, split, student).eval()
    users, items = torch.tensor([3, 9]), torch.tensor([[4, 9, 4], [1, 30, 2]])
    torch.testing.assert_close(model.pair_scores(users, items), model.scores(users).gather(1, items))


@pytest.mark.parametrize("student", ["MultiVAE", "MultiDAE"])  # in looked-up items, and in RecBole's whole rows
def test_an_autoencoder_reads_a_history_once_and_not_for_each_item(make_config, split, student) -> None:
    model, rows = build(make_config, split, student), []
    model.backbone.decoder.register_forward_hook(lambda decoder, given, scores: rows.append(len(scores)))
    model.pair_scores(torch.tensor([3, 9]), torch.ones(2, 50, dtype=torch.int64))
    assert rows == [2]


@pytest.mark.parametrize("student", [*BACKBONES, "HistoryEncoder", "MultiVAE"])
def test_a_curriculum_goes_with_how_each_student_is_trained_by_default(settings, split, list_pool, student) -> None:
    given = {key: value for key, value in settings.items() if key != "eval_step"}
    config = Config("RRDStudent", "toy", config_dict={**given, "student": student, "curriculum": True}, arguments=())
    period = config.model_class(config, split.train).target_lists(list_pool(1), 5).curriculum.period
    assert 10 <= period < 10 + config["eval_step"]
    assert period % config["eval_step"] == 0


@pytest.mark.parametrize(("student", "labelled"), [("MF", False), ("NeuMF", True)])
def test_a_batch_knows_its_positive_items_from_what_was_drawn(make_config, split, student, labelled) -> None:
    model = build(make_config, split, student, base_loss_weight=0.5)
    drawn = next(iter(split.loaders(make_config("HetCompStudent", student=student, base_loss_weight=0.5)).train))
    assert ("label" in drawn.columns) == labelled
    batch = model._batch(drawn)
    assert batch.items is not None
    assert batch.positives is not None
    users = drawn["user_id"]
    pairs = {item for user, item in zip(users.tolist(), drawn["item_id"].tolist()) if observed(model, user, item)}
    assert set(batch.positives.tolist()) == pairs
    assert set(batch.items.tolist()) > pairs


def observed(model: SumOfSquares, user: int, item: int) -> bool:
    return bool(model.history.contains(torch.tensor(user), torch.tensor(item)))
