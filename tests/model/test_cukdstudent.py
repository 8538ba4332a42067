"""CUKD: a start that is the optimum of its first step, from files of vectors of another domain as from any teacher."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.data.history import History
from recbole_hetcomp.model.student import DistilledRecommender
from recbole_hetcomp.quick_start import run_hetcomp
from recbole_hetcomp.teacher_training.scheduling import build_pool
from recbole_hetcomp.teachers.vectors import EntityVectors
from recbole_hetcomp.testing.results import same, saved_state, state_of

FILE = Path("elsewhere.safetensors")
SIZE = 7


@pytest.fixture
def from_file(make_model, make_config, split):
    """`from_file(users, items, history, **settings)`: a student of size 4 that starts from vectors of these ids alone."""

    def make(users, items, history=None, order=None, **settings):
        generator = torch.Generator().manual_seed(2)
        rows = [torch.randn(n, SIZE, generator=generator) for n in (split.whole.user_num, split.whole.item_num)]
        ids = [list(users), list(items)]
        if order is not None:
            ids = [random.Random(order).sample(part, len(part)) for part in ids]
        tokens = [
            [str(token) for token in split.whole.field2id_token[field][part]]
            for field, part in zip(("user_id", "item_id"), ids)
        ]
        EntityVectors(rows[0][ids[0]], rows[1][ids[1]], *tokens).save(FILE)
        model = make_model("CUKDStudent", embedding_size=4, **settings)
        if history is not None:
            model.history = history
        model.learn_from(build_pool(make_config("CUKDStudent", teachers=[str(FILE)]), split))
        model.on_epoch_start(0)
        return model

    return make


HALF = (range(1, 61, 2), range(1, 81, 2))


def tables(model) -> list[torch.Tensor]:
    return [table.detach().clone() for table in model.embeddings()]


def missed(model) -> float:
    """The sum over all that is known of |t - e P|^2, over that of |t|^2."""
    known = {"user": model.history.active_users, "item": torch.arange(1, model.n_items)}
    own = dict(zip(("user", "item"), model.embeddings()))
    distances = [(own[side][ids] @ model.projection - model.teacher[side][ids]) for side, ids in known.items()]
    everything = torch.cat([model.teacher[side][ids] for side, ids in known.items()])
    return float(torch.cat(distances).detach().square().sum() / everything.square().sum())


def test_the_loss_equals_a_loop_and_falls_to_nothing(learnt, batch) -> None:
    model = learnt("CUKDStudent", anchor_weight=0.3, anchor_epochs=4)
    total = 0.0
    for name, ids, table in zip(("user", "item"), (batch.users, batch.items), model.embeddings()):
        for entity in ids.tolist():
            away = table[entity].double() @ model.projection.double() - model.teacher[name][entity].double()
            total += float(away @ away) / len(ids)
    for epoch, share in ((0, 1.0), (1, 0.75), (3, 0.25), (4, 0.0), (9, 0.0)):
        model.on_epoch_start(epoch)
        assert model.distillation_loss(batch).item() == pytest.approx(0.3 * share * total, rel=1e-4)


def test_the_tables_are_the_principal_components_without_a_centre(learnt) -> None:
    model = learnt("CUKDStudent")
    active = model.history.active_users
    everything = torch.cat([model.teacher["user"][active], model.teacher["item"][1:]]).double()
    squares = torch.linalg.svdvals(everything).square()
    assert missed(model) == pytest.approx(float(squares[4:].sum() / squares.sum()), rel=1e-4)
    users, items = model.embeddings()
    best = (model.teacher["user"] @ model.projection.T, model.teacher["item"] @ model.projection.T)
    assert torch.allclose(users[active], best[0][active], atol=1e-5)
    assert torch.allclose(items[1:], best[1][1:], atol=1e-5)


def test_steps_of_adam_come_within_a_hundredth_of_it(learnt) -> None:
    closed, fitted = (missed(learnt("CUKDStudent", solver=solver, start_steps=1500)) for solver in ("pca", "sgd"))
    assert closed * (1 - 1e-5) <= fitted <= 1.01 * closed


@pytest.mark.parametrize("student", ["LightGCN", "HistoryEncoder"])
def test_a_student_that_computes_its_vectors_starts_by_steps(learnt, student) -> None:
    before, after = (missed(learnt("CUKDStudent", student=student, start_steps=steps)) for steps in (1, 200))
    assert after < 0.5 * before
    with pytest.raises(UserError, match=f"solver: pca writes the student's tables, and {student}"):
        learnt("CUKDStudent", student=student, solver="pca")


def test_numbers_beyond_the_teachers_stay_as_they_were(learnt, make_model) -> None:
    teacher, size = learnt("CUKDStudent").teacher["user"].size(1), 11
    model = learnt("CUKDStudent", embedding_size=size)
    start = make_model("CUKDStudent", embedding_size=size)
    untouched = [30 * table for table in tables(start)]  # as `learnt` scales them
    for own, before in zip(tables(model), untouched):
        assert torch.equal(own[:, teacher:], before[:, teacher:])
        assert not torch.equal(own[1:, :teacher], before[1:, :teacher])
    assert missed(model) < 1e-8


def test_without_filling_the_start_knows_nothing_of_the_training_data(from_file, split) -> None:
    """With its items dealt anew among the users the tables are the same bits; those of whoever is filled are not."""
    history, generator = split.history, torch.Generator().manual_seed(0)
    users = history.pairs // history.n_items
    dealt = History(users, history.items[torch.randperm(len(users), generator=generator)], history.n_users, history.n_items)
    assert torch.equal(dealt.active_users, history.active_users)
    for fill in (False, True):
        own, others = (tables(from_file(*HALF, given, fill=fill)) for given in (history, dealt))
        assert all(torch.equal(*pair) for pair in zip(own, others)) == (not fill)
        known = [list(part) for part in HALF]
        assert all(torch.equal(one[ids], other[ids]) for one, other, ids in zip(own, others, known))


def test_who_has_no_vector_starts_at_the_mean_of_the_neighbours_that_have(from_file, split) -> None:
    model, plain = from_file(*HALF, fill=True), from_file(*HALF, fill=False)
    (users, items), start = tables(model), tables(plain)
    pairs = [(int(pair) // model.n_items, int(pair) % model.n_items) for pair in split.history.pairs]
    for user in range(2, 61, 2):
        near = [item for other, item in pairs if other == user and item % 2]
        assert torch.allclose(users[user], items[near].mean(0) if near else start[0][user], atol=1e-5)
    for item in range(2, 81, 2):
        near = [user for user, other in pairs if other == item and user % 2]
        assert torch.allclose(items[item], users[near].mean(0) if near else start[1][item], atol=1e-5)


def test_items_alone_put_users_at_the_mean_of_theirs(from_file, split) -> None:
    model = from_file([], range(1, 81), fill=False)
    users, items = tables(model)
    for user in split.history.active_users.tolist():
        own = split.history.padded(torch.tensor([user]))[0]
        assert torch.allclose(users[user], items[own].mean(0), atol=1e-5)


def test_a_permuted_file_gives_the_same_student(from_file) -> None:
    first, second = (tables(from_file(*HALF, order=order)) for order in (1, 2))
    assert all(torch.equal(*pair) for pair in zip(first, second))


def test_what_is_served_is_the_student_alone_and_the_file_stays(from_file, settings) -> None:
    from_file(*HALF)
    before = FILE.read_bytes()
    changes = {"teachers": [str(FILE)], "without_distillation": False}
    result = run_hetcomp("CUKDStudent", "toy", config_dict={**settings, **changes}, arguments=(), compare=False)
    assert set(result["model"].served_state()) == {"backbone.user_embedding.weight", "backbone.item_embedding.weight"}
    assert FILE.read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"anchor_weight": 0.0}, "anchor_weight: 0 and base_loss_weight: 0 leave nothing to learn"),
        ({"anchor_weight": 0.1, "anchor_epochs": 7, "epochs": 8}, "anchor_epochs: 7 .* base_loss_weight: 0"),
    ],
)
def test_an_anchor_that_ends_before_the_training_needs_a_loss_of_the_students_own(make_model, changes, sentence) -> None:
    make_model("CUKDStudent", **changes).check_trainable()
    with pytest.raises(UserError, match=sentence) as error:
        make_model("CUKDStudent", base_loss_weight=0.0, **changes).check_trainable()
    assert len(error.value.sentence) <= 400
    make_model("CUKDStudent", base_loss_weight=0.0, anchor_weight=0.1, anchor_epochs=8, epochs=8).check_trainable()


@pytest.mark.parametrize("student", ["ML", "CML"])
def test_distances_in_the_unit_ball_cannot_say_what_inner_products_do(make_model, student) -> None:
    """The lengths of the teacher's vectors, which rank items, would be lost; in a composite as well."""
    for name, more in (("CUKDStudent", {}), ("CompositeStudent", {"methods": {"CUKD": 1.0}})):
        with pytest.raises(UserError, match=f"student: {student} scores by distances") as error:
            make_model(name, student=student, **more)
        assert len(error.value.sentence) <= 400
    make_model("CUKDStudent", student=student, distillation_weight=0.0)


STARTS = {
    "closed form": {"solver": "pca"},
    "steps": {"solver": "sgd", "start_steps": 20},
    "factors of two teachers": {"teachers": ["BPR", "EASE"]},
    "graph": {"student": "LightGCN", "start_steps": 5},
}


@pytest.mark.parametrize("case", STARTS)
def test_a_resumed_run_finds_the_same_map_and_ends_with_the_same_bits(resumed, case) -> None:
    """The stopped run trained its teachers, and the resumed one found them: the map depends on neither."""
    whole, again = resumed("CUKDStudent", anchor_weight=1.0, anchor_epochs=8, **STARTS[case])
    assert torch.equal(whole["model"].projection, again["model"].projection)
    assert whole["model"].projection.any()
    assert same(state_of(whole), state_of(again))
    assert same(saved_state(whole), saved_state(again))


@pytest.mark.parametrize("case", STARTS)
def test_the_map_does_not_hang_on_what_was_drawn_before(make_model, trained_pool, case) -> None:
    given = dict(STARTS[case])
    pool, found = trained_pool(*given.pop("teachers", ["BPR"])), []
    for seed in (1, 2):
        model = make_model("CUKDStudent", embedding_size=4, teacher_rank=8, **given)
        torch.manual_seed(seed)
        model.learn_from(pool)
        found.append({"map": model.projection, **model.state_dict()})
    assert same(*found)


# ---- two domains of shared factors ------------------------------------------------------------------------------------

N_USERS, N_ITEMS, PER_USER = 150, 120, 14


@pytest.fixture
def domain(tmp_path, settings):
    """(config_dict of the target domain, factors of its users and items): choices follow the products of the factors."""
    generator = torch.Generator().manual_seed(9)
    users, items = (torch.randn(n, 4, generator=generator) for n in (N_USERS, N_ITEMS))
    chosen = torch.multinomial((1.5 * users @ items.T).softmax(1), PER_USER, generator=generator)
    rows = [f"u{user}\ti{item}" for user, part in enumerate(chosen.tolist()) for item in part]
    folder = tmp_path / "two" / "target"
    folder.mkdir(parents=True)
    (folder / "target.inter").write_text("user_id:token\titem_id:token\n" + "\n".join(rows) + "\n", encoding="utf-8")
    training = {
        "data_path": str(folder.parent),
        "load_col": {"inter": ["user_id", "item_id"]},
        "epochs": 10,
        "eval_step": 1,
        "stopping_step": 20,
        "learning_rate": 0.005,
        "train_batch_size": 128,
        "valid_metric": "NDCG@10",
        "without_distillation": False,
    }
    return {**settings, **training}, users, items


def test_another_domain_of_the_same_factors_gives_a_better_start_and_an_unrelated_one_none(domain, monkeypatch) -> None:
    """Area under the first ten epochs' NDCG; the other domain knows the factors with noise, the unrelated one shuffled."""
    config, users, items = domain
    generator = torch.Generator().manual_seed(4)
    noisy = [rows + 0.5 * torch.randn(rows.shape, generator=generator) for rows in (users, items)]
    names = [f"u{user}" for user in range(N_USERS)], [f"i{item}" for item in range(N_ITEMS)]
    EntityVectors(*noisy, *names).save("related.safetensors")
    shuffled = [rows[torch.randperm(len(rows), generator=generator)] for rows in noisy]
    EntityVectors(*shuffled, *names).save("unrelated.safetensors")
    scores: list[float] = []
    after_validation = DistilledRecommender.after_validation

    def noted(model, score, epoch, ranking):
        scores.append(score)
        return after_validation(model, score, epoch, ranking)

    monkeypatch.setattr(DistilledRecommender, "after_validation", noted)

    def area(teacher: str, weight: float) -> float:
        scores.clear()
        changes = {"teachers": [f"{teacher}.safetensors"], "distillation_weight": weight}
        run_hetcomp("CUKDStudent", "target", config_dict={**config, **changes}, arguments=(), saved=False, compare=False)
        assert len(scores) == 10
        return sum(scores) / 10

    at_random = area("related", 0.0)
    assert area("related", 1.0) > 1.3 * at_random
    assert area("unrelated", 1.0) <= 1.02 * at_random
