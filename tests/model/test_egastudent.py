"""EGA: its losses against loops, an adapter that learns its own task alone, and what each of the two terms moves."""

from __future__ import annotations

import math

import pytest
import torch
from recbole.data.interaction import Interaction
from recbole.utils import init_seed

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.losses.graph_alignment import correlations, edge_loss, node_floor, node_loss
from recbole_hetcomp.teachers.pool import Covered
from recbole_hetcomp.trainer.distillation import DistillationTrainer, _gradient_scaler

NAME = "EGAStudent"
SMALL = {"n_nodes": 12, "graph_size": 16}


def node_vectors(model, batch):
    """(student's, teacher's) vectors of the nodes after both maps, of a draw that is taken back."""
    state = model.generator.get_state()
    own, other = model.nodes(batch)
    model.generator.set_state(state)
    return model.auxiliary["projector"](own), model.apart["adapter"](other)


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize(("kind", "n_users", "n_items"), [("both", 6, 6), ("user", 12, 0), ("item", 0, 12)])
def test_its_loss_is_that_of_the_nodes(learnt, batch, kind, n_users, n_items, normalise) -> None:
    model = learnt(NAME, **SMALL, graph_nodes=kind, node_weight=0.5, edge_weight=2.0, normalise=normalise)
    student, teacher = node_vectors(model, batch)
    assert len(student) == len(teacher) == n_users + n_items
    expected = 0.5 * node_loss(student, teacher) + 2.0 * edge_loss(student, teacher)
    assert model.distillation_loss(batch).item() == pytest.approx(expected.item() / (12 if normalise else 1), rel=1e-5)


def test_nodes_are_users_and_items_of_the_batch_in_student_and_teacher_alike(learnt, batch) -> None:
    model = learnt(NAME, **SMALL)
    tables = [table.detach() for table in model.embeddings()]
    own, other = (rows.detach() for rows in model.nodes(batch))
    for half, table, theirs, ids in zip((0, 6), tables, model.teacher.values(), (batch.users, batch.items)):
        for mine, of_teacher in zip(own[half : half + 6], other[half : half + 6]):
            (place,) = (table == mine).all(1).nonzero().squeeze(1).tolist()
            assert place in ids.tolist()
            assert torch.equal(theirs[place], of_teacher)


@pytest.mark.parametrize(
    ("columns", "negatives"),
    [
        ({"user_id": [3, 3, 5], "item_id": [7, 8, 9], "neg_item_id": [11, 12, 13]}, [11, 12, 13]),
        ({"user_id": [3, 3, 5], "item_id": [7, 8, 9]}, None),
        ({"user_id": [3, 3, 5, 5], "item_id": [7, 8, 9, 10], "label": [1.0, 1.0, 1.0, 0.0]}, None),
        ({"user_id": [3, 4, 5]}, None),
    ],
)
def test_the_adapters_task_is_bpr_over_the_batchs_positives(learnt, columns, negatives) -> None:
    model = learnt(NAME, **SMALL)
    interaction = Interaction({name: torch.tensor(values) for name, values in columns.items()})
    state = model.generator.get_state()
    users, better, worse = model.pairs(interaction)
    model.generator.set_state(state)
    assert len(users) == 3
    if negatives is not None:
        assert worse.tolist() == negatives
    else:
        assert not model.history.contains(users[:, None], worse[:, None]).any()
        assert (worse > 0).all()
    if "item_id" in columns:
        assert better.tolist() == [7, 8, 9]
    else:
        assert model.history.contains(users[:, None], better[:, None]).all()
    weight, bias = model.apart["adapter"].weight.double(), model.apart["adapter"].bias.double()
    rows = {name: (table.double() @ weight.T + bias).detach() for name, table in model.teacher.items()}
    total = 0.0
    for user, good, bad in zip(users.tolist(), better.tolist(), worse.tolist()):
        gap = float(rows["user"][user] @ (rows["item"][good] - rows["item"][bad]))
        total += math.log1p(math.exp(-gap)) / 3
    assert model.loss_apart(interaction).item() == pytest.approx(total, rel=1e-5)


def test_neither_part_and_no_loss_of_its_own_leave_nothing_to_learn(learnt) -> None:
    with pytest.raises(UserError, match="leave nothing to learn"):
        learnt(NAME, **SMALL, node_weight=0.0, edge_weight=0.0, base_loss_weight=0.0).check_trainable()
    learnt(NAME, **SMALL, node_weight=0.0, edge_weight=0.0, base_loss_weight=1.0).check_trainable()


@pytest.mark.parametrize("columns", [("user_id",), ("user_id", "item_id"), ("user_id", "item_id", "neg_item_id")])
def test_pairs_are_of_those_whom_the_teacher_knows_and_histories_are_not_laid_out(learnt, monkeypatch, columns) -> None:
    model = learnt(NAME, **SMALL)
    model.covered = Covered(*(torch.arange(n) % 3 > 0 for n in (model.n_users, model.n_items)))
    pairs = model.history.pairs[:200]
    given = {"user_id": pairs // model.n_items, "item_id": pairs % model.n_items}
    given["neg_item_id"] = torch.arange(200) % (model.n_items - 1) + 1
    monkeypatch.setattr(type(model.history), "padded", lambda *_: pytest.fail("a row for every user"))
    users, better, worse = model.pairs(Interaction({name: given[name] for name in columns}))
    assert len(users) > 40
    assert model.covered.user[users].all()
    assert model.covered.item[better].all()
    assert model.covered.item[worse].all()
    assert model.history.contains(users, better).all()
    if "neg_item_id" not in columns:
        assert not model.history.contains(users, worse).any()
    loss = model.loss_apart(Interaction({name: given[name][:1] * 0 + 3 for name in columns}))  # nobody is left
    loss.backward()
    assert loss.item() == 0


def trained(model, split, epochs: int = 1):
    """The model after some epochs, as the trainer has it."""
    init_seed(7, True)  # RecBole's negatives come from numpy's stream
    trainer = DistillationTrainer(model.config, model)
    for _ in range(epochs):
        for batch in split.loaders(model.config).train:
            trainer._step(model.calculate_loss, batch, _gradient_scaler(False))
    return model


def test_the_adapter_learns_its_task_alone(learnt, split) -> None:
    """With other weights of the alignment, and so with another student, it is the same to the last bit."""
    first = trained(learnt(NAME, **SMALL, apart_learning_rate=0.01), split)
    other = trained(learnt(NAME, **SMALL, apart_learning_rate=0.01, node_weight=0.0, edge_weight=7.0), split)
    assert not torch.equal(first.backbone.user_embedding.weight, other.backbone.user_embedding.weight)
    start = learnt(NAME, **SMALL)
    for name, value in first.apart.state_dict().items():
        assert torch.equal(value, other.apart.state_dict()[name])
        assert not torch.equal(value, start.apart.state_dict()[name])


def test_no_gradient_passes_between_the_alignment_and_the_adapter(learnt, batch) -> None:
    model = learnt(NAME, **SMALL)
    model.distillation_loss(batch).backward()
    assert all(parameter.grad is None for parameter in model.apart.parameters())
    own = [*model.backbone.parameters(), *model.auxiliary.parameters()]
    gradients = [parameter.grad.clone() for parameter in own]
    model.loss_apart(Interaction({"user_id": batch.users})).backward()
    assert all(parameter.grad.any() for parameter in model.apart.parameters())
    assert all(torch.equal(parameter.grad, before) for parameter, before in zip(own, gradients))


def test_the_log_shows_the_node_loss_beside_its_floor(learnt, batch) -> None:
    model = learnt(NAME, **SMALL)
    assert model.on_validation(torch.zeros(0), 1) == ""
    student, teacher = node_vectors(model, batch)
    model.distillation_loss(batch)
    expected = node_loss(student, teacher).item(), math.sqrt(12 - 4 - 1), edge_loss(student, teacher).item()
    assert model.on_validation(torch.zeros(0), 1) == "nodes {:.3f} (floor {:.3f}), edges {:.3f}".format(*expected)
    assert expected[0] >= node_floor(12, 4) == expected[1]


def test_the_node_term_moves_the_nearest_teacher_and_the_edge_term_the_edges(learnt, split) -> None:
    """How many nodes correlate most with the same node of the teacher; how the edges of the two correlate."""
    found = {}
    for name, node, edge in (("neither", 0.0, 0.0), ("nodes", 1.0, 0.0), ("edges", 0.0, 1.0)):
        settings = {"node_weight": node, "edge_weight": edge, "learning_rate": 0.02, "n_nodes": 64}
        settings |= {"base_loss_weight": 0.1, "distillation_weight": 1.0, "graph_size": 16, "apart_learning_rate": 0.01}
        model = trained(learnt(NAME, **settings, embedding_size=8), split, epochs=40)
        with torch.no_grad():
            ids = [torch.arange(1, n) for n in (model.n_users, model.n_items)]
            rows = [
                torch.cat([table[i] for table, i in zip(tables, ids)])
                for tables in (model.embeddings(), model.teacher.values())
            ]
            student, teacher = model.auxiliary["projector"](rows[0]), model.apart["adapter"](rows[1])
            nearest = correlations(student, teacher).argmax(1) == torch.arange(len(student))
            edges = torch.stack(
                [correlations(x, x)[tuple(torch.triu_indices(len(x), len(x), 1))] for x in (student, teacher)]
            )
        found[name] = nearest.float().mean().item(), torch.corrcoef(edges)[0, 1].item()
    assert found["nodes"][0] > 2 * found["neither"][0]
    assert found["edges"][1] > found["neither"][1] + 0.2
    assert found["nodes"][0] > found["edges"][0]
    assert found["edges"][1] > found["nodes"][1]
