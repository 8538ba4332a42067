"""AdaRec's search: its loss against loops, what costs decide, and what is refused before a teacher is trained."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.data.split import make_split
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.distilled_recommender.adarecsearchstudent import AdaRecSearchStudent
from recbole_hetcomp.model.layers import LAYERS, computed, layer_paths
from recbole_hetcomp.model.operations import CONVOLUTIONS, COSTS
from recbole_hetcomp.model.sequential_recommender.adarecnet import EDGES
from recbole_hetcomp.quick_start import run_hetcomp
from recbole_hetcomp.teacher_training.scheduling import build_pool
from recbole_hetcomp.trainer.distillation import DistillationTrainer

NAME = "AdaRecSearchStudent"
COLUMNS = {"inter": ["user_id", "item_id", "timestamp"]}
TEACHER = {"epochs": 2, "eval_step": 1, "train_batch_size": 256, "embedding_size": 8, "hidden_size": 8, "inner_size": 8}


@pytest.fixture
def sequential(settings) -> dict:
    given = {key: value for key, value in settings.items() if key != "teachers"}
    given |= {"load_col": COLUMNS, "MAX_ITEM_LIST_LENGTH": 10, "n_cells": 2, "without_distillation": False}
    return {**given, "teacher_config": {"all": TEACHER}, "trajectory_depth": 10}


@pytest.fixture
def searching(sequential):
    """`searching(**settings)`: a student that has learnt from its teacher (SASRec), in evaluation mode, and the teacher."""

    def make(**given):
        config = Config(NAME, "toy", config_dict={**sequential, **given}, arguments=())
        split = make_split(config)
        torch.manual_seed(3)
        model = AdaRecSearchStudent(config, split.train_for(config)).eval()
        pool = build_pool(config, split)
        model.learn_from(pool)
        return model, pool.teachers[0]

    return make


def log_softmax(values: torch.Tensor) -> list[float]:
    numbers = values.double().tolist()
    top = max(numbers)
    mass = math.log(math.fsum(math.exp(number - top) for number in numbers)) + top
    return [number - mass for number in numbers]


def kl(log_p: list[float], log_q: list[float]) -> float:
    return math.fsum(math.exp(p) * (p - q) for p, q in zip(log_p, log_q))


@pytest.mark.parametrize("teacher", LAYERS)
@pytest.mark.parametrize("kind", ["forward", "reverse"])
def test_the_loss_equals_a_loop(searching, teacher, kind) -> None:
    model, taught = searching(teachers=[teacher], adarec_kl=kind, efficiency_weight=0.7)
    rows, net = torch.tensor([1, 5, 9, model.history.n_users - 1]), model.backbone
    model.requires_grad_(False)
    loss = model.distillation_loss(Batch(rows, None)).item()
    plan, asked = model.transport.plan, model.history.asked(rows)
    lengths, items = asked[net.ITEM_SEQ_LEN].tolist(), asked[net.ITEM_SEQ]
    cells, made = net.states(items, asked[net.ITEM_SEQ_LEN]), computed(taught.model, asked)
    assert len(made.layers) == len(layer_paths(taught.model)) == plan.size(1)
    places = [(row, place) for row, length in enumerate(lengths) for place in range(length)]
    first = 1 if teacher == "BERT4Rec" else 0  # is not asked for the oldest item
    with_states = [(row, place) for row, place in places if place >= first]
    between = (lambda p, q: kl(p, q)) if kind == "forward" else (lambda p, q: kl(q, p))
    own = [net.full_sort_predict(asked)[row, 1:] for row in range(4)]
    theirs = [taught.model.full_sort_predict(asked)[row, 1:] for row in range(4)]
    total = math.fsum(between(log_softmax(p), log_softmax(q)) for p, q in zip(theirs, own)) / 4
    maps = model.auxiliary
    for i, cell in enumerate(cells):
        for j, layer in enumerate(made.layers):
            parts = [between(log_softmax(layer[at]), log_softmax(maps["of_cells"](cell[at]))) for at in with_states]
            total += plan[i, j].item() * math.fsum(parts) / len(with_states)
    table, other = net.item_embedding, taught.model.item_embedding
    gaps = [(maps["of_items"](table(items[at])) - other(items[at])).square().mean().item() for at in places]
    total += math.fsum(gaps) / len(places)
    shares = net.alpha.double().softmax(1).tolist()
    total += 0.7 * math.fsum(share * COSTS[name] for edge in shares for share, name in zip(edge, net.names))
    assert loss == pytest.approx(total, rel=1e-4)
    torch.testing.assert_close(plan.sum(1), torch.full((2,), 0.5, dtype=torch.float64))


def test_layers_that_are_tapped_end_in_the_teachers_own_output(searching) -> None:
    model, taught = searching(teachers=["SASRec"])
    asked = model.history.asked(torch.arange(1, 9))
    sasrec = taught.model
    last = sasrec.gather_indexes(computed(sasrec, asked).layers[-1], asked[sasrec.ITEM_SEQ_LEN] - 1)
    torch.testing.assert_close(last, sasrec(asked[sasrec.ITEM_SEQ], asked[sasrec.ITEM_SEQ_LEN]))


@pytest.mark.parametrize("teacher", LAYERS)
def test_the_state_at_a_place_of_the_layers_is_that_of_the_item_there(searching, teacher) -> None:
    """Of models that look both ways what other items say is taken out; the others do not look ahead."""
    model, taught = searching(teachers=[teacher])
    with torch.no_grad():
        for name, part in taught.model.named_parameters():
            if "attention" in name and ".dense." in name:
                part.zero_()
    longest = int(model.history.lengths[: model.history.n_people].argmax())
    asked = model.history.asked(torch.tensor([longest] * 10))
    sequence = asked["item_id_list"]
    assert (sequence > 0).all()
    changed = sequence.clone()
    places = torch.arange(10)
    changed[places, places] = sequence[places, places] % (taught.model.n_items - 1) + 1  # row p has another item at place p
    before, known = computed(taught.model, asked).layers[0], computed(taught.model, asked).known
    asked["item_id_list"] = changed
    differs = (computed(taught.model, asked).layers[0] - before).abs().amax(2) > 1e-6  # [10, 10]
    assert not differs.tril(-1).any()
    assert torch.equal(differs.diagonal(), known[0])
    assert known.sum(1).tolist() == [9 if teacher == "BERT4Rec" else 10] * 10


def test_a_teacher_whose_state_is_wider_than_its_items_can_be_learnt_from(searching) -> None:
    model, taught = searching(teachers=["GRU4Rec"], teacher_config={"all": {**TEACHER, "hidden_size": 12}})
    assert model.distillation_loss(Batch(torch.arange(1, 9), None)).isfinite()
    assert taught.model.item_embedding.embedding_dim == 8


def test_the_losses_of_a_step_are_of_one_network(searching, monkeypatch) -> None:
    model, _ = searching()
    interaction = make_split(model.config).train_for(model.config).inter_feat[:32]
    net, seen = model.train().backbone, []
    choices = net.choices
    monkeypatch.setattr(net, "choices", lambda: seen.append(choices()) or seen[-1])
    for step in range(2):
        seen.clear()
        model.calculate_loss(interaction)
        assert len(seen) == 3  # drawn, and then asked for by two passes
        assert seen[0] is seen[1] is seen[2], step
    assert net.drawn is None
    model.calculate_loss(interaction)
    assert seen[-1] is not seen[0]


def trained(model, steps: int, rate: float = 0.05) -> list[str]:
    """What it derives after `steps` of its own loss over all rows, all parameters at one rate."""
    model.train()
    everything = Batch(torch.arange(1, model.history.n_users), None)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        model.distillation_loss(everything).backward()
        optimizer.step()
    return model.backbone.derived()


def test_costs_of_great_weight_leave_no_convolution_and_of_weight_0_some(searching) -> None:
    dear, _ = searching(efficiency_weight=1e4)
    free, _ = searching(efficiency_weight=0.0)
    assert not set(trained(dear, 20)) & set(CONVOLUTIONS)
    assert set(trained(free, 20)) & set(CONVOLUTIONS)


def test_the_cost_of_certain_choices_is_the_sum_of_theirs(searching) -> None:
    model, _ = searching()
    chosen = ["conv3", "none", "max_pool", "conv5", "skip", "dilated5"]
    with torch.no_grad():
        for edge, name in enumerate(chosen):
            model.backbone.alpha[edge] = torch.where(torch.tensor([name == one for one in model.backbone.names]), 1e4, 0.0)
    assert model.cost().item() == pytest.approx(math.fsum(COSTS[name] for name in chosen), rel=1e-5)
    assert len(EDGES) == len(chosen)


def test_the_logits_of_operations_have_a_rate_and_a_decay_of_their_own_and_draws_grow_certain(searching) -> None:
    model, _ = searching(alpha_learning_rate=0.07, alpha_decay=0.03, gumbel_decay=0.5, gumbel_period=2)
    groups = DistillationTrainer(model.config, model).optimizer.param_groups
    (own,) = (group for group in groups if any(part is model.backbone.alpha for part in group["params"]))
    assert (own["lr"], own["weight_decay"], len(own["params"])) == (0.07, 0.03, 1)
    assert {group["lr"] for group in groups} == {0.07, model.config["learning_rate"]}
    temperatures = []
    for epoch in range(5):
        model.on_epoch_start(epoch)
        temperatures.append(model.backbone.temperature)
    assert temperatures == [1, 1, 0.5, 0.5, 0.25]


def test_a_plan_is_asked_for_as_often_as_emd_every_says(searching) -> None:
    model, _ = searching(emd_every=3)
    plans = []
    for _ in range(7):
        model.distillation_loss(Batch(torch.arange(1, 9), None))
        plans.append(model.transport.plan)
    assert [one is other for one, other in zip(plans, plans[1:])] == [True, True, False, True, True, False]


def test_a_step_that_computes_the_drawn_operations_alone_has_the_same_loss_and_gradients_but_those_of_alpha(
    searching,
) -> None:
    found = {}
    for computes_all in (True, False):
        model, _ = searching()
        model.train().backbone.computes_all = computes_all
        torch.manual_seed(5)
        loss = model.distillation_loss(Batch(torch.arange(1, 9), None))
        loss.backward()
        found[computes_all] = loss.detach(), {name: part.grad for name, part in model.named_parameters()}
    (loss, every), (same, drawn) = found[True], found[False]
    torch.testing.assert_close(same, loss)
    assert drawn.pop("backbone.alpha") is None
    assert every.pop("backbone.alpha").abs().sum() > 0
    for name, gradient in every.items():
        torch.testing.assert_close(torch.zeros_like(gradient) if drawn[name] is None else drawn[name], gradient)
    assert sum(gradient is None for gradient in drawn.values()) > 20


def test_alpha_learns_in_each_epochs_first_step_and_as_often_as_alpha_every_says(searching) -> None:
    model, _ = searching(alpha_every=3)
    interaction = make_split(model.config).train_for(model.config).inter_feat[:32]
    model.train()
    learning = []
    for epoch in range(2):
        model.on_epoch_start(epoch)
        for _ in range(5):
            model.zero_grad()
            sum(model.calculate_loss(interaction)).backward()
            learning.append(model.backbone.alpha.grad is not None)
    assert learning == 2 * [True, False, False, True, False]


def test_nothing_of_the_teacher_is_trained_or_saved(searching) -> None:
    model, taught = searching()
    before = {name: part.clone() for name, part in taught.model.state_dict().items()}
    trained(model, 3)
    assert all(torch.equal(part, before[name]) for name, part in taught.model.state_dict().items())
    assert all(part.grad is None for part in taught.model.parameters())
    assert not taught.model.training
    assert all(name.startswith("backbone.") for name in model.served_state())
    assert all(name.startswith(("backbone.", "auxiliary.of_")) for name in model.state_dict())


REFUSED = {
    "two teachers": ({"teachers": ["SASRec", "NextItNet"]}, "teachers: AdaRecSearchStudent learns the layers of one"),
    "no layers": ({"teachers": ["FPMC"]}, "teachers: AdaRecSearchStudent learns the layers of one"),
    "a general one": ({"teachers": ["BPR"]}, "teachers: AdaRecSearchStudent learns the layers of one"),
    "nothing to search": ({"architecture": ["skip"] * 6}, "architecture: AdaRecSearchStudent searches one"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_searched_is_refused_before_any_training(sequential, case) -> None:
    given, sentence = REFUSED[case]
    with pytest.raises(UserError) as error:
        run_hetcomp(NAME, "toy", config_dict={**sequential, **given}, arguments=())
    assert error.value.sentence.startswith(sentence)
    assert len(error.value.sentence) <= 400
    assert not (Path("saved") / "trained").exists()
