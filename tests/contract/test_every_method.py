"""What holds of every distilled model: found by discovery, so that a new method is covered the day it is added."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.registry import get_model, properties_dir
from recbole_hetcomp.model.distilled_recommender.compositestudent import CompositeStudent
from recbole_hetcomp.model.embedding_student import EmbeddingStudent
from recbole_hetcomp.model.student import DistilledRecommender
from recbole_hetcomp.quick_start import load_student, run_hetcomp
from recbole_hetcomp.trainer import distillation
from recbole_hetcomp.trainer.distillation import DistillationTrainer

METHODS = [
    path.stem
    for path in sorted(properties_dir().glob("model/*.yaml"))
    if issubclass(get_model(path.stem), DistilledRecommender)  # type: ignore[arg-type]
]
TRAINING = {
    "epochs": 4,
    "eval_step": 1,
    "stopping_step": 10,
    "train_batch_size": 128,
    "learning_rate": 0.01,
    "weight_decay": 0.0,
}
TEACHERS = {"one": ["LightGCN"], "three kinds": ["BPR", "NeuMF", "MultiVAE"], "without embeddings": ["EASE"]}
LONGER = {  # than the 80 items of `toy`: all numbers of items or users that a method takes
    key: 100
    for path in properties_dir().glob("model/*Student.yaml")
    for key in yaml.safe_load(path.read_text(encoding="utf-8"))
    if key.startswith("n_") and key not in ("n_experts", "n_groups", "n_neighbours")
}
WORDS = [
    (path.stem, line.partition(":")[0])
    for path in sorted(properties_dir().glob("model/*Student.yaml"))
    for line in path.read_text(encoding="utf-8").splitlines()
    if "# (str)" in line
]


@pytest.fixture
def run(settings):
    """`run(model, **settings)`: RecBole's result of a short run on `toy`, without the student alone."""

    def start(model: str, **changes: Any) -> dict[str, Any]:
        config = {**settings, **TRAINING, "curriculum_period": 1, "without_distillation": False, **changes}
        config["teacher_config"] = {"all": {"epochs": 2, "embedding_size": 8, "train_batch_size": 256, "eval_step": 1}}
        return run_hetcomp(model, "toy", config_dict=config, arguments=(), compare=False)

    return start


def state_of(result: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {name.removeprefix("backbone."): tensor for name, tensor in result["model"].state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def digests(folder: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("teachers", TEACHERS)
@pytest.mark.parametrize("method", METHODS)
def test_it_trains_from_any_teachers_and_leaves_them_as_they_are(run, method, teachers) -> None:
    first = run(method, teachers=TEACHERS[teachers])
    before = digests(Path("saved") / "trained")
    assert before
    again = run(method, teachers=TEACHERS[teachers])  # finds them
    assert digests(Path("saved") / "trained") == before
    assert same(state_of(first), state_of(again))
    assert all(tensor.isfinite().all() for tensor in state_of(first).values())
    assert 0 < first["test_result"]["recall@10"] <= 1


@pytest.mark.parametrize("method", METHODS)
def test_without_its_weight_it_is_plain_training_bit_for_bit(run, method) -> None:
    switched_off = run(method, distillation_weight=0.0, base_loss_weight=1.0, user_batches=False)
    assert same(state_of(switched_off), state_of(run("MF")))
    weight = {} if run(method)["model"].base_loss_weight == 0 else {"distillation_weight": 1.0}
    assert not same(state_of(run(method, **weight)), state_of(switched_off))


@pytest.mark.parametrize("method", METHODS)
def test_a_student_of_recboles_own_learns_from_teachers_beside_its_own_loss(run, method) -> None:
    """LightGCN's loss has the shape [1]."""
    settings: dict[str, Any] = {"student": "LightGCN", "base_loss_weight": 1.0, "user_batches": False, "epochs": 2}
    if method == "EmbedDistillStudent":  # its other side needs scores that are products of tables
        settings["side"] = "symmetric"
    weight = {} if method == "CompositeStudent" else {"distillation_weight": 1.0}
    taught, alone = run(method, **settings, **weight), run("LightGCN", epochs=2)
    assert state_of(taught).keys() == state_of(alone).keys()
    assert not same(state_of(taught), state_of(alone))


@pytest.mark.parametrize("method", METHODS)
def test_the_saved_student_is_the_backbone_and_serves_without_teachers(run, method, make_model) -> None:
    result = run(method)
    saved = torch.load(result["checkpoint"], weights_only=True)["state_dict"]
    assert {name.removeprefix("backbone.") for name in saved} == set(make_model("MF").state_dict())
    assert all(name.startswith("backbone.") for name in saved)
    assert sum(tensor.numel() for tensor in result["model"].parameters()) == sum(tensor.numel() for tensor in saved.values())
    _, served, _ = load_student(result["checkpoint"], arguments=())
    users = result["model"].history.active_users
    assert torch.equal(served.scores(users), result["model"].scores(users))


@pytest.mark.parametrize("method", METHODS)
def test_an_interrupted_training_ends_as_an_uninterrupted_one(run, method, monkeypatch) -> None:
    monkeypatch.setattr(distillation, "PROGRESS_SECONDS", 0)
    whole = run(method, checkpoint_dir="whole")
    train_epoch = DistillationTrainer._train_epoch

    def interrupted(trainer: Any, data: Any, epoch: int, **settings: Any) -> Any:
        loss = train_epoch(trainer, data, epoch, **settings)
        if epoch == 2:
            raise KeyboardInterrupt
        return loss

    with monkeypatch.context() as patched:
        patched.setattr(DistillationTrainer, "_train_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(method)
    assert list(Path("saved").glob("*.progress"))
    assert same(state_of(run(method)), state_of(whole))


@pytest.mark.parametrize("method", [name for name in METHODS if get_model(name).needs.scores])  # type: ignore[attr-defined]
def test_lists_alone_are_refused_before_training_where_scores_are_needed(run, method, split) -> None:
    tokens = (split.whole.field2id_token[field] for field in ("user_id", "item_id"))
    users, items = (list(map(str, part))[1:] for part in tokens)
    rows = [f"{user}\t{item}\t{rank}" for user in users for rank, item in enumerate(items)]
    Path("lists.tsv").write_text("user\titem\trank\n" + "\n".join(rows) + "\n", encoding="utf-8")
    for teachers in (["lists.tsv"], ["BPR", "lists.tsv"]):
        with pytest.raises(UserError, match=f"{method} needs a teacher's scores"):
            run(method, teachers=teachers)
    assert not (Path("saved") / "trained").exists()


@pytest.mark.parametrize(("method", "key"), WORDS)
def test_a_word_that_is_no_choice_is_refused_before_any_teacher_is_trained(make_model, method, key) -> None:
    with pytest.raises(UserError, match=f"^{key}: 'no such word' is none of "):
        make_model(method, **{key: "no such word"})


@pytest.mark.parametrize("method", [name for name in METHODS if name != "CompositeStudent"])
def test_the_curriculum_leads_methods_that_learn_lists_and_is_refused_by_the_others(run, method) -> None:
    if not get_model(method).needs.trajectories and method != "DERRDStudent":  # type: ignore[attr-defined]
        with pytest.raises(UserError, match="curriculum: True"):
            run(method, curriculum=True)
    else:
        assert run(method, curriculum=True, guide="teacher")["test_result"]  # the guide of methods that have one


@pytest.mark.parametrize("method", METHODS)
def test_no_candidate_is_a_training_item(run, method, monkeypatch) -> None:
    asked, observed = [], int(method == "EmbedDistillStudent")  # its candidates begin with a training item, by definition
    pair_scores = DistilledRecommender.pair_scores

    def watched(model: Any, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        asked.append(bool(model.history.contains(users[:, None].cpu(), items[:, observed:].cpu()).any()))
        return pair_scores(model, users, items)

    monkeypatch.setattr(DistilledRecommender, "pair_scores", watched)
    model = run(method, epochs=2)["model"]
    for part in (model, *getattr(model, "parts", {}).values()):
        if part.lists is not None:
            users = part.history.active_users
            asked.append(bool(part.history.contains(users[:, None], part.lists.on_host[users]).any()))
    assert asked or isinstance(model, EmbeddingStudent)  # which may have no candidates at all
    assert not any(asked)


@pytest.mark.parametrize("method", METHODS)
def test_padding_learns_nothing(run, method, monkeypatch) -> None:
    """All lists and draws are longer here than what a user has not seen, so that they end in padding."""
    distillation_loss = get_model(method).distillation_loss  # type: ignore[attr-defined]
    learnt = []

    def watched(model: Any, batch: Any) -> torch.Tensor:
        loss = distillation_loss(model, batch)
        tables = [table for table in model.backbone.parameters() if len(table) in (model.n_users, model.n_items)]
        gradients = torch.autograd.grad(loss, tables, retain_graph=True, allow_unused=True)
        learnt.extend(bool(gradient[0].any()) for gradient in gradients if gradient is not None)
        return loss

    monkeypatch.setattr(get_model(method), "distillation_loss", watched)
    run(method, epochs=2, trajectory_depth=100, **LONGER)
    assert learnt
    assert not any(learnt)


@pytest.mark.parametrize("method", [name for name in METHODS if not issubclass(get_model(name), CompositeStudent)])
def test_within_a_composite_it_teaches_and_the_student_is_saved_as_by_itself(run, method, make_model) -> None:
    weight = {method.removesuffix("Student"): 1.0}
    result = run("CompositeStudent", methods=weight, base_loss_weight=1.0, user_batches=False)
    saved = torch.load(result["checkpoint"], weights_only=True)["state_dict"]
    assert {name.removeprefix("backbone.") for name in saved} == set(make_model("MF").state_dict())
    assert not same(state_of(result), state_of(run("MF")))
    users = result["model"].history.active_users
    _, served, _ = load_student(result["checkpoint"], arguments=())
    assert torch.equal(served.scores(users), result["model"].scores(users))
