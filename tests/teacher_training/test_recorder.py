"""Recording a training: it changes nothing, and what is chosen from it is what the rules say."""

from __future__ import annotations

import pytest
import torch
from recbole.data.interaction import Interaction
from recbole.model.general_recommender import BPR
from recbole.utils import init_seed

from recbole_hetcomp.config.registry import get_model
from recbole_hetcomp.teacher_training import recorder
from recbole_hetcomp.teacher_training.configs import checkpoint_selection
from recbole_hetcomp.teacher_training.recorder import (
    Recorder,
    Selection,
    Snapshots,
    epoch_fractions,
    recording_trainer,
    score_fractions,
)
from recbole_hetcomp.teacher_training.top_lists import TopLists
from recbole_hetcomp.teacher_training.training import fit_recorded
from recbole_hetcomp.teachers.ranking import top_unobserved
from recbole_hetcomp.teachers.trajectory import rank_deviation
from recbole_hetcomp.testing.toy import N_USERS
from recbole_hetcomp.trainer.choice import get_trainer

DEPTH = 6
SMALL = {
    "RecVAE": {"hidden_dimension": 8, "latent_dimension": 4},
    "MultiVAE": {"mlp_hidden_size": [8], "latent_dimension": 4},
    "NeuMF": {"mf_embedding_size": 4, "mlp_embedding_size": 4, "mlp_hidden_size": [8]},
    "ItemVAE": {"mlp_hidden_size": [8], "latent_dimension": 4},
}


@pytest.fixture
def snapshots(tmp_path) -> Snapshots:
    (tmp_path / "snapshots").mkdir()
    return Snapshots(tmp_path / "snapshots")


def plain_training(config, split):
    """RecBole's own way, without a word of ours: the trainer after `fit`."""
    init_seed(config["seed"], config["reproducibility"])
    loaders = split.loaders(config)
    model = get_model(config.model)(config, loaders.train._dataset)
    trainer = get_trainer(get_model(config.model))(config, model)
    trainer.fit(loaders.train, loaders.valid, saved=True, show_progress=False)
    saved = torch.load(trainer.saved_model_file, map_location="cpu", weights_only=False)
    return trainer, saved


@pytest.mark.parametrize("name", ["BPR", "RecVAE", "LightGCN", "MultiVAE", "NeuMF", "ItemVAE"])
def test_recording_leaves_training_bit_for_bit_as_it_is(make_config, split, snapshots, name) -> None:
    config = make_config(name, epochs=3, stopping_step=10, **SMALL.get(name, {}))
    plain, saved = plain_training(config, split)
    torch.manual_seed(999)
    recorded = fit_recorded(config, split, snapshots, DEPTH)
    assert recorded.best_epoch == saved["epoch"] + 1
    assert recorded.best_valid_score == plain.best_valid_score
    state = recorded.best_state["state_dict"]
    assert state.keys() == saved["state_dict"].keys()
    for key, value in saved["state_dict"].items():
        assert torch.equal(state[key], value), key
        assert torch.equal(recorded.model.state_dict()[key], value), key  # the model is left at its best epoch
    assert recorded.train_loss_dict == plain.train_loss_dict


@pytest.mark.parametrize(
    ("name", "more", "epochs"),
    [
        ("BPR", {"epochs": 3}, [1, 2, 3]),
        ("BPR", {"epochs": 5, "eval_step": 2}, [2, 4]),
        ("RecVAE", {"epochs": 2}, [1, 2]),  # several inner passes an epoch
        ("EASE", {"epochs": 9}, [1]),
    ],
)
def test_there_is_one_snapshot_a_validation(make_config, split, snapshots, name, more, epochs) -> None:
    trainer = fit_recorded(make_config(name, stopping_step=10, **more, **SMALL.get(name, {})), split, snapshots, DEPTH)
    assert snapshots.epochs == epochs
    assert len(snapshots.scores) == len(epochs)
    assert trainer.best_epoch in epochs
    assert max(snapshots.scores) == trainer.best_valid_score
    assert snapshots.scores[epochs.index(trainer.best_epoch)] == trainer.best_valid_score


def test_snapshot_of_the_best_epoch_is_what_the_finished_model_recommends(make_config, split, snapshots) -> None:
    trainer = fit_recorded(make_config("BPR", epochs=4, learning_rate=0.05), split, snapshots, DEPTH)
    best = snapshots.rows(trainer.best_epoch)
    assert torch.equal(best, top_unobserved(trainer.model, split.history, DEPTH))
    others = [snapshots.rows(epoch) for epoch in snapshots.epochs if epoch != trainer.best_epoch]
    assert any(not torch.equal(best, other) for other in others)


@pytest.mark.parametrize("name", ["BPR", "NeuMF", "LightGCN", "MultiVAE", "ItemVAE", "EASE"])
@pytest.mark.parametrize("known", [0, 7, N_USERS])
def test_lists_are_those_of_the_model_however_many_users_its_validation_has_scored(
    make_config, split, snapshots, monkeypatch, name, known
) -> None:
    trained: list[Recorder] = []
    take, record, kept = TopLists.take, Recorder.record, Snapshots.take
    monkeypatch.setattr(TopLists, "take", lambda self, users, scores: take(self, users[:known], scores[:known]))
    monkeypatch.setattr(
        Recorder, "record", lambda self, *rest, **named: trained.append(self) or record(self, *rest, **named)
    )

    def compared(self: Snapshots, epoch: int, score: float, lists: torch.Tensor) -> None:
        assert torch.equal(lists, top_unobserved(trained[0].model, split.history, DEPTH, opinions_alone=True))
        kept(self, epoch, score, lists)

    monkeypatch.setattr(Snapshots, "take", compared)
    fit_recorded(make_config(name, epochs=3, max_block_mb=4e-4, **SMALL.get(name, {})), split, snapshots, DEPTH)
    assert snapshots.epochs


def test_a_validation_and_its_snapshot_score_each_user_once(make_config, split, snapshots, monkeypatch) -> None:
    scored: list[int] = []
    predict = get_model("BPR").full_sort_predict

    def counted(self: BPR, interaction: Interaction) -> torch.Tensor:
        scored.extend(interaction["user_id"].tolist())
        return predict(self, interaction)

    monkeypatch.setattr(get_model("BPR"), "full_sort_predict", counted)
    fit_recorded(make_config("BPR", epochs=2), split, snapshots, DEPTH)
    assert sorted(scored) == sorted(2 * split.history.active_users.tolist())


def test_training_that_gets_worse_is_left_at_its_best_epoch(make_config, split, snapshots, monkeypatch) -> None:
    scores = iter([0.1, 0.4, 0.3, 0.2])
    trainer_class = get_trainer(get_model("BPR"))
    monkeypatch.setattr(trainer_class, "_valid_epoch", lambda *_, **__: (next(scores), {}))
    trainer = fit_recorded(make_config("BPR", epochs=9, stopping_step=1), split, snapshots, DEPTH)
    assert snapshots.scores == [0.1, 0.4, 0.3, 0.2]
    assert trainer.best_epoch == 2
    assert torch.equal(snapshots.rows(2), top_unobserved(trainer.model, split.history, DEPTH))


@pytest.mark.parametrize("rule", ["epoch", "score"])
def test_training_without_validation_is_recorded_at_its_end(make_config, split, snapshots, rule) -> None:
    trainer = fit_recorded(make_config("BPR", epochs=3, eval_step=0), split, snapshots, DEPTH)
    assert snapshots.epochs == [trainer.best_epoch] == [3]
    items, _, chosen = Selection(rule, (0.5, 1.0), 5).choose(snapshots, 3)
    assert chosen == [0, 0]
    assert torch.equal(items[-1], top_unobserved(trainer.model, split.history, DEPTH))


def test_recording_without_snapshots_keeps_the_best_state_alone(make_config, split, tmp_path) -> None:
    trainer = fit_recorded(make_config("BPR"), split, None)
    assert trainer.best_state["state_dict"].keys() == trainer.model.state_dict().keys()
    assert not list(tmp_path.glob("saved/*.pth"))


def test_recording_trainer_is_the_models_own_with_a_recorder_in_front() -> None:
    own = get_trainer(get_model("RecVAE"))
    made = recording_trainer(own)
    assert made.__mro__[1:3] == (recorder.Recorder, own)


@pytest.mark.parametrize(
    ("epochs", "fractions", "chosen"),
    [
        ([10, 20, 30, 40], (0.25, 0.5, 0.75, 1.0), [0, 1, 2, 3]),
        ([1, 2, 3, 4, 5, 6, 7, 8], (0.25, 0.5, 1.0), [1, 3, 7]),
        ([10, 20, 30], (0.5, 1.0), [0, 2]),  # 15 is as near to 10 as to 20: the earlier
        ([7], (0.25, 0.5, 0.75, 1.0), [0, 0, 0, 0]),
        ([1, 2, 40], (0.5, 0.6, 1.0), [1, 2, 2]),
    ],
)
def test_epoch_rule_takes_the_snapshots_nearest_to_the_fractions(epochs, fractions, chosen) -> None:
    assert epoch_fractions(epochs, [0.0] * len(epochs), fractions) == chosen


@pytest.mark.parametrize(
    ("scores", "fractions", "chosen"),
    [
        ([0.125, 0.25, 0.375, 0.5], (0.25, 0.5, 0.75, 1.0), [0, 1, 2, 3]),
        ([0.31, 0.39, 0.4], (0.25, 0.5, 0.75, 1.0), [0, 0, 0, 2]),
        ([0.1, 0.35, 0.2, 0.4], (0.5, 0.9, 1.0), [1, 3, 3]),  # the first to reach it, though a later one falls back
        ([0.4, 0.2, 0.4], (0.5, 1.0), [0, 2]),  # 1 is the last one, not the first that scores as high
        ([float("nan")], (0.5, 1.0), [0, 0]),
    ],
)
def test_score_rule_takes_the_first_snapshots_to_reach_the_fractions(scores, fractions, chosen) -> None:
    assert score_fractions(range(len(scores)), scores, fractions) == chosen


@pytest.mark.parametrize(
    ("scores", "fractions", "chosen"),
    [
        ([0.7, 0.6, 0.5, 0.45, 0.4], (0.25, 0.5, 0.75, 1.0), [1, 2, 3, 4]),  # of the way from .7 to .4
        ([0.7, 0.5, 0.65, 0.4], (0.5, 0.9, 1.0), [1, 3, 3]),
        ([0.4], (0.5, 1.0), [0, 0]),
        ([float("nan")], (0.5, 1.0), [0, 0]),
    ],
)
def test_score_rule_takes_losses_by_how_far_they_have_fallen(snapshots, scores, fractions, chosen) -> None:
    for epoch, score in enumerate(scores, 1):
        snapshots.take(epoch, score, torch.tensor([[0, 0], [1, 2]], dtype=torch.int32))
    assert Selection("score", fractions, 1, larger_is_better=False).choose(snapshots, len(scores))[2] == chosen


def test_whether_larger_scores_are_better_is_the_valid_metrics(make_config) -> None:
    metrics = {"metrics": ["Recall", "AveragePopularity"]}
    assert checkpoint_selection(make_config("HetCompStudent", **metrics)).larger_is_better
    popular = make_config("HetCompStudent", **metrics, valid_metric="AveragePopularity@10")
    assert not checkpoint_selection(popular).larger_is_better


@pytest.fixture
def taken(snapshots) -> tuple[Snapshots, list[torch.Tensor]]:
    """Seven snapshots of four users' lists; the fifth, epoch 50, is the best."""
    generator = torch.Generator().manual_seed(2)
    lists = [torch.rand(4, 12, generator=generator).argsort(1)[:, :DEPTH].int() + 1 for _ in range(7)]
    for index, items in enumerate(lists):
        snapshots.take(10 * (index + 1), 0.1 * min(index, 8 - index), items)
    return snapshots, lists


def test_checkpoints_end_at_the_best_epoch_and_later_snapshots_play_no_role(taken) -> None:
    snapshots, lists = taken
    items, _, chosen = Selection("epoch", (0.25, 0.5, 0.75, 1.0), 3).choose(snapshots, 50)
    assert chosen == [0, 1, 3, 4]  # 12.5 -> 10, 25 -> 20 (the earlier of two), 37.5 -> 40, 50
    assert torch.equal(items, torch.stack([lists[index] for index in chosen]))


@pytest.mark.parametrize("window", [1, 3, 50])
@pytest.mark.parametrize("users_per_block", [1, 3, 100])
def test_deviation_is_taken_over_the_window_that_ends_at_the_checkpoint(taken, window, users_per_block, monkeypatch) -> None:
    snapshots, lists = taken
    monkeypatch.setattr(recorder, "USERS_PER_BLOCK", users_per_block)
    _, rank_std, chosen = Selection("epoch", (0.25, 0.5, 0.75, 1.0), window).choose(snapshots, 50)
    for stage, index in enumerate(chosen):
        recent = [lists[i] for i in range(7) if index - window < i <= index]
        assert torch.equal(rank_std[stage], rank_deviation(lists[index], recent))
    if window == 1:
        assert not rank_std.any()


def test_clear_removes_the_files_and_nothing_else(taken) -> None:
    snapshots, _ = taken
    (snapshots.folder / "model.pth").write_text("")
    snapshots.clear()
    assert [file.name for file in snapshots.folder.iterdir()] == ["model.pth"]


def test_a_user_has_a_list_at_all_checkpoints_or_at_none(snapshots) -> None:
    """User 1 always, 2 not at first, 3 not in the end, 4 never."""
    for epoch, lists in enumerate(([[0, 0], [1, 2], [0, 0], [3, 4], [0, 0]], [[0, 0], [2, 1], [5, 6], [0, 0], [0, 0]]), 1):
        snapshots.take(epoch, 0.1 * epoch, torch.tensor(lists, dtype=torch.int32))
    items, rank_std, _ = Selection("epoch", (0.5, 1.0), 1).choose(snapshots, 2)
    assert items.tolist() == [[[0, 0], [1, 2], [5, 6], [0, 0], [0, 0]], [[0, 0], [2, 1], [5, 6], [0, 0], [0, 0]]]
    assert torch.equal(rank_std[0, 2], rank_std[1, 2])
