"""Whole runs with sequential models: files as teachers, a start from another model, vectors, repeats, and the ensemble."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from recbole.data.interaction import Interaction

from recbole_hetcomp.commands.vectors import write_vectors
from recbole_hetcomp.data.split import make_split
from recbole_hetcomp.evaluation.live_ensemble import ensemble_on_test
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.quick_start import run_hetcomp
from recbole_hetcomp.teacher_training.alone import alone_config
from recbole_hetcomp.teacher_training.scheduling import build_pool
from recbole_hetcomp.teachers.pool import TeacherPool
from recbole_hetcomp.teachers.vectors import EntityVectors
from recbole_hetcomp.testing.results import state_of

SIZES = {"hidden_size": 8, "inner_size": 8, "n_heads": 1, "MAX_ITEM_LIST_LENGTH": 10}
RUN = {**SIZES, "load_col": {"inter": ["user_id", "item_id", "timestamp"]}, "without_distillation": False}
TEACHER = {"epochs": 1, "eval_step": 1, "hidden_size": 8, "inner_size": 8}


@pytest.fixture
def run(settings):
    """`run(model, **settings)`: the result of a short run on `toy`, by default of a GRU4Rec taught by SASRec."""

    def start(model: str, compare: bool = False, **changes: object) -> dict:
        config = {**settings, **RUN, "student": "GRU4Rec", "teachers": ["SASRec"], "epochs": 1, **changes}
        config["teacher_config"] = {"SASRec": TEACHER} if "SASRec" in config["teachers"] else {}
        return run_hetcomp(model, "toy", config_dict=config, arguments=(), compare=compare)

    return start


@pytest.fixture
def sequential(make_config):
    """`sequential(model, **settings)`: a Config of a run with a GRU4Rec as the student."""
    return lambda model="HetCompStudent", **given: make_config(model, **{**RUN, "student": "GRU4Rec", **given})


@pytest.fixture
def vector_file() -> str:
    """Vectors of every second user and every third item of `toy`."""
    generator = torch.Generator().manual_seed(2)
    users, items = ([f"{side}{i}" for i in range(0, n, step)] for side, n, step in (("u", 60, 2), ("i", 80, 3)))
    vectors = [torch.randn(len(side), 6, generator=generator) for side in (users, items)]
    EntityVectors(*vectors, users, items, teacher="elsewhere").save("part.safetensors")
    return "part.safetensors"


@pytest.mark.parametrize("method", ["FitNetStudent", "EGAStudent", "DEStudent"])
def test_vectors_of_some_users_teach_a_student_that_is_asked_by_sequences(run, vector_file, method) -> None:
    state = state_of(run(method, teachers=[vector_file]))
    assert all(tensor.isfinite().all() for tensor in state.values())


def test_who_is_covered_is_said_of_each_row(sequential, vector_file) -> None:
    config = sequential(teachers=[vector_file])
    split = make_split(config)
    rows = split.rows_for(config)
    (teacher,) = build_pool(config, split).teachers
    (again,) = TeacherPool([teacher]).teachers
    even = [
        token != "[PAD]" and int(token[1:]) % 2 == 0 for token in split.whole.field2id_token["user_id"] if token != "cold"
    ]
    for made in (teacher, again):
        assert made.covered.user.tolist() == [even[user] for user in rows.of_user.tolist()]
        assert torch.equal(made.trajectory.items[-1, :, 0] > 0, made.covered.user & (rows.counts > 0))


def test_ranked_lists_of_a_table_teach_rows(run, toy) -> None:
    Path("mine.csv").write_text(
        "user,item,rank\n" + "".join(f"u{u},i{(u * 7 + r) % 80},{r}\n" for u in range(60) for r in range(9))
    )
    rows = run("RRDStudent", compare=True, teachers=["mine.csv", "SASRec"])["comparison"]
    assert [row["model"] for row in rows if row["role"] == "teacher"] == ["mine", "SASRec"]


def test_a_sequential_student_starts_from_another_result_of_its_rows(run) -> None:
    first = {"start_from": "FitNetStudent", "start_config": {"epochs": 1}}
    found = [run("HetCompStudent", points_per_user=points, **first) for points in (2, 2, 3)]
    assert len(found) == 3
    assert len(list((Path("saved") / "started").iterdir())) == 2  # for each number of points one


@pytest.mark.parametrize("model", ["HetCompStudent", "STAMP"])
def test_the_vectors_of_a_sequential_model_are_those_of_users_at_the_end(run, model) -> None:
    """STAMP has no inner products: spectral factors of its scores."""
    result = run(model)
    vectors = write_vectors(result["checkpoint"], "made.safetensors", rank=80)
    assert EntityVectors.load("made.safetensors").user_tokens == vectors.user_tokens
    assert len(vectors.user_tokens) == 60
    if model == "STAMP":
        assert vectors.users.size(1) == 61  # as many as there are rows, the padding one among them
        return
    split = make_split(result["model"].config)
    users, items = (
        torch.from_numpy(split.whole.token2id(f"{side}_id", tokens))
        for side, tokens in (("user", vectors.user_tokens), ("item", vectors.item_tokens))
    )
    with torch.no_grad():
        scores = result["model"].full_sort_predict(split.rows(1, 0).asked(users)).view(len(users), -1)[:, items]
    torch.testing.assert_close(vectors.users @ vectors.items.T, scores, rtol=1e-4, atol=1e-5)


def test_what_followed_a_point_is_what_hetcomp_has_observed(sequential) -> None:
    config = sequential(teachers=["SASRec"], teacher_config={"SASRec": TEACHER}, n_observed=3)
    split = make_split(config)
    model = config.model_class(config, split.loaders(config).train._dataset)
    model.learn_from(build_pool(config, split))
    rows = model.history
    assert torch.equal(model.observed.cpu(), rows.following(3))
    assert not model.observed[: rows.n_people].any()
    assert (model.observed[rows.n_people :, 0] > 0).all()
    loss = model.distillation_loss(Batch(rows.active_users, None))
    assert loss.isfinite()
    loss.backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.backbone.parameters())


@pytest.fixture
def live(sequential):
    """`live(**settings)`: (the ensemble on the test part of BPR and SASRec, the split, the test instances)."""

    def make(teachers: list[str], **given: object):
        config = sequential(teachers=teachers, teacher_config={"all": TEACHER}, trajectory_depth=80, **given)
        split = make_split(config)
        pool = build_pool(config, split)
        return ensemble_on_test(config, split, pool), split, split.instances[2].inter_feat, pool

    return make


def test_without_the_mask_a_general_teacher_still_lists_what_is_new(live) -> None:
    ensemble, split, instances, _ = live(["BPR", "SASRec"], mask_seen=False)
    items, _ = ensemble.candidates(instances)
    of_general, of_sequential = items
    seen = torch.cat([split.history.padded(instances["user_id"]), split.parts[1].inter_feat["item_id"][:, None]], 1)
    listed = (of_general[:, :, None] == seen[:, None]) & (of_general > 0)[:, :, None]
    assert not listed.any()
    assert (of_general > 0).any()
    assert ((of_sequential[:, :, None] == seen[:, None]) & (seen > 0)[:, None]).any()  # to it repeats are data


def test_a_live_list_ends_where_opinions_do(live) -> None:
    """As kept lists do: of items that share the lowest score, none is listed."""
    ensemble, _, instances, pool = live(["SASRec"])
    teacher = pool.teachers[0].model
    rated = copy.copy(teacher)
    scores = torch.zeros(len(instances), 82)
    scores[:, 1:8] = torch.arange(7.0, 0.0, -1.0)
    rated.__dict__["full_sort_predict"] = lambda interaction: scores[: len(interaction)]
    pool.teachers[0].__dict__["model"] = rated
    items, _ = ensemble.candidates(Interaction(instances.interaction))
    assert ((items > 0).sum(-1) <= 7).all()
    assert (items.amax() == 7).all()


def test_the_live_ensemble_reads_no_kept_lists(live, monkeypatch) -> None:
    monkeypatch.setattr(TeacherPool, "lists", lambda *_: pytest.fail("lists were read"))
    ensemble, _, instances, _ = live(["SASRec"])
    assert ensemble.candidates(instances)[0].any()


def test_a_copy_of_rows_is_the_rows_and_one_row_a_user_is_made_once(sequential) -> None:
    split = make_split(sequential(teachers=["BPR"]))
    rows = split.rows(4, 3)
    assert copy.deepcopy(rows) is rows
    assert split.rows(1, 3) is split.rows(1, 8) is split.rows(1, 0)
    assert split.rows(2, 3) is not split.rows(2, 8)
    assert rows.padded(torch.arange(3)).size(0) == len(rows.contains(torch.arange(3), torch.ones(3))) == 3
    assert len(rows.active_users) < rows.n_users
    assert not {"pairs", "items"} & set(vars(rows))  # as many as rows times items: for who asks


@pytest.mark.parametrize("student", ["GRU4Rec", "SASRec", "NARM", "LightSANs", "FPMC"])
def test_the_student_alone_has_the_size_of_the_student_and_not_of_a_teacher(make_config, student) -> None:
    given = {"student": student, "teachers": ["SASRec"], "load_col": RUN["load_col"]}
    config = make_config("HetCompStudent", **given)
    alone, sizes = alone_config(config), ("embedding_size", "hidden_size", "inner_size")
    assert [alone[size] for size in sizes if size in alone] == [config[size] for size in sizes if size in alone]
