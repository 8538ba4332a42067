"""ReverseStudent: the optimum of PCA, a bottleneck that tells odd entities, the order of teachers, the exported codes."""

from __future__ import annotations

import math

import pytest
import torch
from recbole.data.interaction import Interaction

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.distilled_recommender.reversestudent import SIDES
from recbole_hetcomp.model.one_class import Decoders, encoder, restoration_errors
from recbole_hetcomp.quick_start import run_hetcomp
from recbole_hetcomp.teacher_training.scheduling import build_pool
from recbole_hetcomp.teachers.vectors import EntityVectors
from recbole_hetcomp.testing.results import same

NAME, TEACHERS = "ReverseStudent", ("LightGCN", "BPR", "EASE")


def bytes_of(pool) -> list[bytes]:
    states = [teacher.model.state_dict() for teacher in pool.teachers]
    return [tensor.numpy().tobytes() for state in states for tensor in state.values()]


def test_linear_and_squared_it_reaches_the_pca_of_the_teachers_tables_side_by_side(learnt, train_alone) -> None:
    model = learnt(NAME, *TEACHERS, parts="linear", restoration="squared")
    best = 0.0
    for rows in (model.teacher[side][1:].double() for side in SIDES):
        best += float(torch.linalg.svdvals(rows - rows.mean(0))[4:].square().sum()) / len(rows)
    assert model.sizes == [8, 8, 8]
    assert train_alone(model, 800) == pytest.approx(best, rel=0.01)


def test_the_loss_equals_a_loop(learnt, batch) -> None:
    model = learnt(NAME, *TEACHERS, restore_weight=0.5)
    total = 0.0
    for side, ids in zip(SIDES, (batch.users, batch.items)):
        for one in ids.tolist():
            given = model.teacher[side][one].split(model.sizes)
            restored = model.auxiliary[side](model.codes(side)[one][None])[0].split(model.sizes)
            cosines = [
                float(a.double() @ b.double() / a.double().norm() / b.double().norm()) for a, b in zip(given, restored)
            ]
            total += 0.5 * sum(1 - cosine for cosine in cosines) / len(ids)
    assert model.distillation_loss(batch).item() == pytest.approx(total, rel=1e-4)


def test_teachers_stay_as_they_are_while_codes_and_decoders_learn(make_model, trained_pool, train_alone) -> None:
    pool, model = trained_pool("BPR", "LightGCN"), make_model(NAME, embedding_size=4, teacher_rank=8)
    before = bytes_of(pool)
    model.learn_from(pool)
    own, codes = {side: rows.clone() for side, rows in model.teacher.items()}, model.codes("user").detach().clone()
    start = train_alone(model, 0)
    assert train_alone(model, 50) < 0.9 * start
    assert bytes_of(pool) == before
    assert same(model.teacher, own)
    assert not torch.allclose(model.codes("user"), codes, atol=0.01)


def auroc_of_a_linear_code(width: int) -> float:
    """Of entities that were not trained on: each teacher's vector comes from another entity in the odd ones."""
    sizes, generator = [16, 16, 16], torch.Generator().manual_seed(2)
    maps = [torch.randn(6, size, generator=generator) / 6**0.5 for size in sizes]

    def drawn(count: int, odd: bool = False) -> torch.Tensor:
        shared = torch.randn(count, 6, generator=generator)
        rows = torch.cat([(torch.randn(count, 6, generator=generator) if odd else shared) @ each for each in maps], 1)
        return rows + 0.3 * torch.randn(rows.shape, generator=generator)

    rows, ordinary, odd = drawn(400), drawn(200), drawn(200, odd=True)
    torch.manual_seed(3)
    encode, decode = encoder(sizes, 64, width, linear=True), Decoders(sizes, width, linear=True)
    optimizer = torch.optim.Adam([*encode.parameters(), *decode.parameters()], lr=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 1500)
    for _ in range(1500):
        optimizer.zero_grad()
        restoration_errors(rows, decode(encode(rows)), sizes).sum(1).mean().backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        ordinary, odd = (restoration_errors(part, decode(encode(part)), sizes).sum(1) for part in (ordinary, odd))
    return float((odd[:, None] > ordinary).double().mean())


def test_a_narrow_code_tells_odd_entities_and_one_as_wide_as_all_vectors_does_not() -> None:
    assert auroc_of_a_linear_code(8) > 0.9
    assert auroc_of_a_linear_code(48) <= 0.6


@pytest.mark.parametrize("order", [("BPR", "EASE", "LightGCN"), ("LightGCN", "EASE", "BPR")])
def test_the_order_of_the_teachers_changes_nothing(learnt, batch, order) -> None:
    one, other = learnt(NAME, *TEACHERS), learnt(NAME, *order)
    assert one.names == other.names == sorted(TEACHERS)
    assert same(one.state_dict(), other.state_dict())
    assert torch.equal(one.distillation_loss(batch), other.distillation_loss(batch))


@pytest.mark.parametrize("student", ["MF", "ML", "LightGCN"])
def test_the_exported_tables_are_the_codes_bit_for_bit(learnt, train_alone, student) -> None:
    model = learnt(NAME, student=student, **({"n_layers": 1} if student == "LightGCN" else {}))
    train_alone(model, 5)
    codes, users = {side: model.codes(side).detach().clone() for side in SIDES}, torch.arange(model.n_users)
    scores, served = model.scores(users).detach(), model.served_state()
    model.finish_training()
    for side in SIDES:
        assert torch.equal(served[f"backbone.{side}_embedding.weight"], codes[side])
        assert torch.equal(model.codes(side), codes[side])
        assert type(model.backbone.get_submodule(f"{side}_embedding")).__name__ in ("Table", "Embedding")
    assert torch.equal(model.scores(users), scores)
    assert not model.auxiliary
    assert {name for name in served if "parametrizations" in name} == set()


def test_anomalies_are_the_errors_of_the_codes_that_are_left(learnt) -> None:
    model = learnt(NAME, *TEACHERS)
    decoders = dict(model.auxiliary)
    model.finish_training()
    for side in SIDES:
        restored = decoders[side](model.codes(side))
        assert torch.equal(model.anomalies[side], restoration_errors(model.teacher[side], restored, model.sizes))


def test_without_restoration_the_encoders_learn_by_the_students_own_loss_alone(settings) -> None:
    config = {**settings, "embedding_size": 4, "teachers": ["BPR"], "restore_weight": 0.0, "learning_rate": 0.02}
    results = [
        run_hetcomp(NAME, "toy", config_dict={**config, "distillation_weight": weight}, arguments=(), compare=False)["model"]
        for weight in (1.0, 7.0)
    ]
    assert same(results[0].state_dict(), results[1].state_dict())  # nothing hangs on the weight of what is 0
    plain = run_hetcomp("MF", "toy", config_dict=config, arguments=(), compare=False)["model"]
    assert not torch.allclose(results[0].codes("user"), plain.user_embedding.weight, atol=0.01)


# ---- teachers that do not know everybody -------------------------------------------------------------------------------

EARLY, LATE = "early.safetensors", "late.safetensors"  # of users and items 1 to 30, and of 21 to 40


@pytest.fixture
def partial(make_model, make_config, split):
    """`partial(*teachers, **settings)`: a student of these teachers, of which EARLY and LATE know a part of the entities."""
    generator = torch.Generator().manual_seed(5)
    for name, ids in ((EARLY, range(1, 31)), (LATE, range(21, 41))):
        tokens = [[str(token) for token in split.whole.field2id_token[field][list(ids)]] for field in ("user_id", "item_id")]
        EntityVectors(*torch.randn(2, len(ids), 6, generator=generator).unbind(), *tokens).save(name)

    def make(*teachers, **settings):
        model = make_model(NAME, embedding_size=4, teacher_rank=8, **settings)
        model.learn_from(build_pool(make_config(NAME, teachers=list(teachers)), split))
        model.on_epoch_start(0)
        return model

    return make


def knows(teacher: str, one: int) -> bool:
    known = {"early": range(1, 31), "late": range(21, 41)}
    return teacher not in known or one in known[teacher]


def error_of(model, given, restored) -> list[float]:
    """1 - cos for each teacher, of two rows of all teachers' numbers."""
    parts = zip(given.split(model.sizes), restored.split(model.sizes))
    return [1 - float(torch.cosine_similarity(own.double(), back.double(), dim=0)) for own, back in parts]


@pytest.mark.parametrize("teachers", [("BPR", EARLY, LATE), (EARLY, LATE)])
def test_whom_a_teacher_does_not_know_is_not_odd_to_it(partial, teachers) -> None:
    """Errors are K times the mean over the teachers that know an entity, or a pair; whom nobody knows has no part."""
    model = partial(*teachers)
    restored = {side: model.auxiliary[side](model.codes(side)).detach() for side in SIDES}
    ids = torch.tensor([2, 8, 25, 28, 36, 40, 45, 60])  # known to one file, to both, to the other, to none

    def expected(errors: list[float], *entities: int) -> float:
        known = [error for name, error in zip(model.names, errors) if all(knows(name, one) for one in entities)]
        return len(teachers) * math.fsum(known) / len(known) if known else math.nan

    total = 0.0
    for side in SIDES:
        of_each = [expected(error_of(model, model.teacher[side][one], restored[side][one]), one) for one in ids.tolist()]
        left = [error for error in of_each if not math.isnan(error)]
        assert len(left) == (8 if "BPR" in teachers else 6)
        total += math.fsum(left) / len(left)
    assert model.distillation_loss(Batch(ids, ids)).item() == pytest.approx(total, rel=1e-4)

    users, items = torch.cartesian_prod(ids, ids).T
    of_pairs = [
        expected(
            error_of(model, *(rows["user"][user] * rows["item"][item] for rows in (model.teacher, restored))), user, item
        )
        for user, item in zip(users.tolist(), items.tolist())
    ]
    assert model.pair_anomalies(users, items).tolist() == pytest.approx(of_pairs, rel=1e-4, nan_ok=True)

    model.finish_training()
    for side in SIDES:
        for place, name in enumerate(model.names):
            unknown = model.anomalies[side][:, place].isnan()
            assert unknown[1:].tolist() == [not knows(name, one) for one in range(1, len(unknown))]


def test_a_batch_of_whom_nobody_knows_trains_on_somebody_else(partial) -> None:
    model = partial(EARLY, LATE)
    loss = model.distillation_loss(Batch(torch.tensor([45, 50]), torch.tensor([60, 70])))
    loss.backward()
    assert loss.isfinite()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())


def test_what_a_teacher_knows_has_size_one_however_little_that_is(partial) -> None:
    model = partial("BPR", EARLY)
    for side in SIDES:
        rows = model.teacher[side].split(model.sizes, 1)[model.names.index("early")]
        assert rows[1:31].square().sum(1).mean().item() == pytest.approx(1, rel=1e-5)
        assert not rows[31:].any()
        assert not rows[0].any()


def test_pairs_that_nobody_knows_weigh_as_the_mean_of_the_others(partial) -> None:
    model = partial(EARLY, LATE, denoise=True, denoise_from=0)
    odd = model.pair_anomalies(model.history.pairs // model.n_items, model.history.items)
    assert 0 < odd.isnan().double().mean() < 1
    known = (-odd[~odd.isnan()] / odd.nanmedian()).exp()
    assert torch.allclose(model.pair_weights[~odd.isnan()], known)
    assert torch.allclose(model.pair_weights[odd.isnan()], known.mean())


# ---- denoising ---------------------------------------------------------------------------------------------------------


def test_denoising_redraws_the_batch_of_the_students_own_loss_alone(learnt, split, make_config, monkeypatch) -> None:
    model = learnt(NAME, *TEACHERS, denoise=True, denoise_from=0)
    batch = next(iter(split.loaders(make_config(NAME)).train))
    drawn = batch[torch.zeros(len(batch), dtype=torch.int64)]
    monkeypatch.setattr(model, "redrawn", lambda interaction: drawn)
    base, restoration = model.calculate_loss(batch)
    assert base.item() == pytest.approx(model.backbone.calculate_loss(drawn).item(), rel=1e-6)
    assert base.item() != pytest.approx(model.backbone.calculate_loss(batch).item(), rel=1e-3)
    assert torch.equal(restoration, model.loss_of(batch))


def test_denoising_trains_to_the_end_and_to_another_student(settings) -> None:
    config = {**settings, "embedding_size": 4, "epochs": 4, "teachers": ["BPR"], "denoise": True}
    results = [
        run_hetcomp(NAME, "toy", config_dict={**config, "denoise_from": first}, arguments=(), saved=False, compare=False)
        for first in (1, 4)
    ]
    states = [result["model"].state_dict() for result in results]
    assert all(rows.isfinite().all() for rows in states[0].values())
    assert not same(*states)


def test_no_pair_is_too_odd_to_be_drawn(learnt, monkeypatch) -> None:
    model = learnt(NAME, denoise=True, denoise_from=0)
    odd = torch.ones(len(model.history.pairs))
    odd[: len(odd) // 2 + 1] = 1e-4  # the median; beside it all others underflow
    monkeypatch.setattr(model, "pair_anomalies", lambda users, items: odd)
    model.on_epoch_start(0)
    users, items = model.history.pairs[-50:] // model.n_items, model.history.items[-50:]
    assert len(model.redrawn(Interaction({model.USER_ID: users, model.ITEM_ID: items, model.NEG_ITEM_ID: items}))) == 50


def test_denoising_without_a_loss_of_the_students_own_is_refused(learnt) -> None:
    for batches in (True, False):
        with pytest.raises(UserError, match=r"denoise: True .* base_loss_weight: 0") as error:
            learnt(NAME, denoise=True, base_loss_weight=0.0, user_batches=batches).check_trainable()
        assert len(error.value.sentence) <= 400
    learnt(NAME, denoise=False, base_loss_weight=0.0).check_trainable()


def test_denoising_without_anything_that_learns_to_restore_is_refused(learnt) -> None:
    with pytest.raises(UserError, match=r"denoise: True .* restore_weight: 0 nothing learns") as error:
        learnt(NAME, denoise=True, restore_weight=0.0).check_trainable()
    assert len(error.value.sentence) <= 400
    learnt(NAME, denoise=False, restore_weight=0.0).check_trainable()


def test_denoising_draws_odd_interactions_more_rarely(learnt) -> None:
    model = learnt(NAME, *TEACHERS, denoise=True, denoise_from=3)
    model.on_epoch_start(2)
    assert not len(model.pair_weights)
    model.on_epoch_start(3)
    users, items = model.history.pairs // model.n_items, model.history.items
    odd = model.pair_anomalies(users, items)
    assert torch.allclose(model.pair_weights, (-odd / odd.median()).exp())
    user, item = int(users[5]), int(items[5])
    given, back = [], []
    for rows, found in ((model.teacher, given), ({side: model.auxiliary[side](model.codes(side)) for side in SIDES}, back)):
        found += (rows["user"][user] * rows["item"][item]).split(model.sizes)
    expected = sum(1 - float(torch.cosine_similarity(a, b, dim=0)) for a, b in zip(given, back))
    assert float(odd[5]) == pytest.approx(expected, rel=1e-4)
    model.pair_weights = torch.zeros(len(odd)).index_fill(0, torch.tensor([4, 9]), 1.0)
    drawn = model.redrawn(Interaction({model.USER_ID: users, model.ITEM_ID: items, model.NEG_ITEM_ID: items}))
    assert len(drawn) == len(users)
    pairs = drawn[model.USER_ID] * model.n_items + drawn[model.ITEM_ID]
    assert set(pairs.tolist()) == set(model.history.pairs[[4, 9]].tolist())


def test_what_cannot_be_encoded_is_refused(learnt, batch, settings) -> None:
    assert isinstance(batch, Batch)
    with pytest.raises(UserError, match="student: HistoryEncoder has no tables of users and items to encode"):
        learnt(NAME, student="HistoryEncoder")
    composite = {**settings, "methods": {"Reverse": 1.0, "EmbedDistill": 1.0}}
    for first, second in (("Reverse", "EmbedDistill"), ("EmbedDistill", "Reverse")):
        both = {**composite, "methods": {first: 1.0, second: 1.0}}
        with pytest.raises(UserError, match="methods: two of them train the student's item_embedding"):
            run_hetcomp("CompositeStudent", "toy", config_dict=both, arguments=(), compare=False)
    with pytest.raises(UserError, match="restore_weight: 0 and base_loss_weight: 0 leave nothing"):
        learnt(NAME, restore_weight=0.0, base_loss_weight=0.0).check_trainable()
    with pytest.raises(UserError, match="denoise: True redraws batches"):
        run_hetcomp("CompositeStudent", "toy", config_dict={**composite, "denoise": True}, arguments=(), compare=False)
