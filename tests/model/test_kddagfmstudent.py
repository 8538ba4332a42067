"""KDDAGFMStudent: the loss of each phase against the formula, frozen tables, and a student that equals its teacher."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import binary_cross_entropy, mse_loss

from recbole_hetcomp.cli import main
from recbole_hetcomp.commands.checks import check
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.strict import StrictConfig
from recbole_hetcomp.data.split import make_split
from recbole_hetcomp.model.context_student import DistilledContext
from recbole_hetcomp.quick_start import run_hetcomp
from recbole_hetcomp.teacher_training.scheduling import build_context_teachers
from recbole_hetcomp.trainer.distillation import DistillationTrainer

DRAWN = {"distribution": "uniform", "sample_num": 1}


@pytest.fixture
def taught(clicks_config, clicks_model):
    """`taught(**settings)`: a student that has learnt from its teachers, the teachers, and 50 training rows."""

    def make(**given):
        settings = {"share_tables": True, **given}
        model, train = clicks_model("KDDAGFMStudent", **settings)
        config = clicks_config("KDDAGFMStudent", **settings)
        teachers = build_context_teachers(config, make_split(config))
        model.learn_from(teachers)
        model.on_epoch_start(0)
        return model, teachers, train[torch.arange(50)]

    return make


def run(clicks, **settings):
    return run_hetcomp("KDDAGFMStudent", "clicks", config_dict={**clicks, **settings}, arguments=())


def logits(model, rows):
    chances = model.predict(rows).reshape(-1).double().clamp(1e-6, 1 - 1e-6)
    return torch.log(chances) - torch.log1p(-chances)


def test_the_losses_of_both_phases_equal_the_formula(taught):
    model, teachers, rows = taught(teachers=["DeepFM", "DCNV2"], logit_weight=3.0, ctr_weight=0.25, distillation_weight=0.5)
    wanted = torch.stack([logits(teacher.model, rows) for teacher in teachers.teachers]).mean(0)
    own = logits(model.backbone, rows)
    clicks_loss = binary_cross_entropy(model.predict(rows).double(), rows["label"].double())
    of_clicks, of_logits = model.calculate_loss(rows)
    assert of_clicks.item() == pytest.approx(0.25 * clicks_loss.item(), rel=1e-5)
    assert of_logits.item() == pytest.approx(0.5 * 3.0 * ((own - wanted) ** 2).mean().item(), rel=1e-4)
    model.on_epoch_start(99)
    assert model.calculate_loss(rows).item() == pytest.approx(clicks_loss.item(), rel=1e-5)


def test_the_weight_of_the_logits_follows_their_spread(taught):
    model, teachers, _ = taught()
    spread = teachers.logits(model.sample).var(correction=0)
    assert model.logit_weight.item() == pytest.approx(1 / spread.item(), rel=1e-5)


@pytest.mark.parametrize("student", ["DAGFM", "DeepFM"])
def test_tables_are_the_teachers_and_rest_until_the_finetuning(taught, student):
    model, teachers, rows = taught(student=student)
    theirs = dict(teachers.teachers[0].model.named_parameters())
    assert model.shared
    assert all(torch.equal(dict(model.backbone.named_parameters())[name], theirs[name]) for name in model.shared)
    before = {name: part.detach().clone() for name, part in model.backbone.named_parameters()}
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)

    def step():
        optimizer.zero_grad()
        loss = model.calculate_loss(rows)
        (sum(loss) if isinstance(loss, tuple) else loss).backward()
        optimizer.step()
        return {name for name, part in model.backbone.named_parameters() if not torch.equal(part, before[name])}

    moved = step()
    assert moved
    assert not moved & model.shared
    model.on_epoch_start(99)
    assert step() >= model.shared


@pytest.mark.parametrize("untrained", ["LR", "FFM"])
def test_tables_that_a_teacher_never_reads_are_not_shared(taught, untrained):
    """Both own RecBole's tables of all columns, and predict without them."""
    model, teachers, _ = taught(teachers=[untrained, "DeepFM"], share_tables=True)
    first, second = (dict(teacher.model.named_parameters()) for teacher in teachers.teachers)
    own = dict(model.backbone.named_parameters())
    assert model.shared
    for name in model.shared:
        assert torch.equal(own[name], second[name])
        assert not torch.equal(own[name], first[name])
    assert all(part.grad is None for part in [*first.values(), *second.values()])
    alone, _, _ = taught(teachers=[untrained], share_tables=True)
    assert not alone.shared


def test_tables_of_other_sizes_and_students_of_tables_alone_learn_from_the_start(taught):
    for settings in ({"embedding_size": 3}, {"student": "FM"}, {"share_tables": False}):
        model, _, rows = taught(**settings)
        assert not model.shared
        sum(model.calculate_loss(rows)).backward()
        assert model.backbone.token_embedding_table.embedding.weight.grad.any()


def test_a_teacher_of_the_same_size_is_matched(clicks):
    """Distillation alone, without a label: R^2 of the logits above 0.99."""
    teacher = {"teachers": ["DAGFM"], "teacher_config": {"all": {"epochs": 6, "embedding_size": 4, "train_batch_size": 64}}}
    training = {"epochs": 60, "base_loss_weight": 0.0, "learning_rate": 0.02, "train_batch_size": 64, "eval_step": 60}
    result = run(clicks, **teacher, **training, without_distillation=True)
    alone, student = result["comparison"][-2:]
    assert student["fidelity"] > 0.99
    assert alone["fidelity"] < student["fidelity"]


def test_patience_waits_for_the_finetuning(clicks, monkeypatch):
    waited, valid_epoch = [], DistillationTrainer._valid_epoch

    def watched(trainer, *given, **settings):
        found = valid_epoch(trainer, *given, **settings)
        waited.append((trainer.model.may_stop_early, trainer.cur_step))
        return found

    monkeypatch.setattr(DistillationTrainer, "_valid_epoch", watched)
    run(clicks, epochs=5, distil_epochs=3)
    assert [may_stop for may_stop, _ in waited] == [False, False, False, True, True]
    assert all(step == -1 for may_stop, step in waited if not may_stop)


def test_an_imitation_without_a_finetuning_or_without_an_epoch_for_it_is_told_apart(clicks):
    with pytest.raises(UserError, match=r"^distil_epochs: 9 leaves no epoch for the finetuning"):
        run(clicks, epochs=9, distil_epochs=9)
    assert not Path("saved/trained").exists()
    assert run(clicks, epochs=2, distil_epochs=9, base_loss_weight=0.0)["test_result"]["auc"] > 0.5


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"student": "MF"}, "^student: 'MF' is no context-aware model"),
        ({"start_from": "FitNetStudent"}, "^start_from: 'FitNetStudent' ranks items"),
        (
            {"teacher_weighting": 0.0},
            "^teacher_weighting: 0.0 has no effect where clicks are learnt; leave teacher_weighting out",
        ),
        ({"curriculum": True}, "^curriculum: True has no effect where clicks are learnt"),
        ({"curriculum_alpha": 1.1}, "^curriculum_alpha: 1.1 has no effect where clicks are learnt"),
        ({"tail_samples": 9}, "^tail_samples: 9 has no effect where clicks are learnt"),
        ({"user_batches": True}, "^user_batches: True has no effect where clicks are learnt"),
        (
            {"train_neg_sample_args": DRAWN},
            "^train_neg_sample_args: 'uniform' draws negatives.*'label' has rows without one",
        ),
        (
            {"teacher_config": {"FM": {"train_neg_sample_args": DRAWN}}},
            "^teacher_config of FM: train_neg_sample_args: 'uniform' draws negatives",
        ),
        ({"threshold": None}, "^eval_args: mode: 'labeled' needs the column 'label'"),
        ({"threshold": {"rating": 9}}, "^LABEL_FIELD: all rows of the training part have the same 'label'"),
        ({"threshold": None, "LABEL_FIELD": "minutes"}, "^LABEL_FIELD: 'minutes' holds 0.* a label is 0 or 1"),
        ({"metrics": ["Recall"], "valid_metric": "Recall@10", "eval_args": {"mode": "full"}}, "^eval_args: mode: "),
    ],
)
def test_what_teaches_no_clicks_is_refused_before_any_training(clicks, given, sentence):
    with pytest.raises(UserError, match=sentence):
        run(clicks, **given)
    assert not Path("saved/trained").exists()


def test_a_ranking_method_refuses_a_student_of_clicks(clicks_config):
    with pytest.raises(UserError, match=r"^student: 'FM' is no general recommender"):
        check(clicks_config("HetCompStudent", student="FM"))


def test_several_processes_are_refused(clicks):
    flags = [f"--{key}={value}" for key, value in {**clicks, "teachers": "['LR']"}.items()]
    assert main(["--model=KDDAGFMStudent", "--dataset=clicks", "--nproc=2", *flags]) == 2


def test_a_method_for_clicks_is_one_loss(clicks_config):
    """As docs/adding_a_method.md has it."""

    class LogitStudent(DistilledContext):
        def distillation_loss(self, interaction):
            return mse_loss(self.logits(interaction), self.teacher_logits(interaction))

    config = clicks_config("KDDAGFMStudent", student="DeepFM", teachers=["LR"])
    split = make_split(config)
    model = LogitStudent(StrictConfig(config), split.train).eval()
    model.learn_from(build_context_teachers(config, split))
    rows = split.train[torch.arange(20)]
    wanted = logits(model.teachers.teachers[0].model, rows)
    expected = ((logits(model.backbone, rows) - wanted) ** 2).mean().item()
    assert model.calculate_loss(rows)[1].item() == pytest.approx(expected, rel=1e-4)
    model.finish_training()
    assert model.teachers is None
