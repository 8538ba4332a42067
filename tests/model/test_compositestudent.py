"""A composite is the weighted sum of its methods, on one student."""

from __future__ import annotations

import pytest
import torch
import yaml

from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.registry import properties_dir
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.distilled_recommender import compositestudent
from recbole_hetcomp.model.distilled_recommender.compositestudent import CompositeStudent

SMALL = {"list_depth": 20, "n_interesting": 6, "n_uninteresting": 9, "sampled": False, "n_targets": 10, "n_observed": 3}


def learnt(make_model, pool, name: str, **settings):
    model = make_model(name, **{**SMALL, **settings})
    model.learn_from(pool)
    model.on_epoch_start(0)
    return model


def test_its_loss_is_the_weighted_sum_of_its_methods(make_model, list_pool) -> None:
    pool = list_pool(2)
    weights = {"RRD": 0.5, "HetComp": 3.0}
    composite = learnt(make_model, pool, "CompositeStudent", methods=weights)
    batch = Batch(composite.history.active_users[:10], None)
    expected = 0.0
    for name, weight in weights.items():
        alone = learnt(make_model, pool, f"{name}Student")
        alone.load_state_dict(composite.state_dict())
        expected += weight * alone.distillation_loss(batch).item()
    assert composite.distillation_loss(batch).item() == pytest.approx(expected, rel=1e-5)


def test_all_users_are_ranked_where_any_of_its_methods_needs_them(make_model, list_pool) -> None:
    both = learnt(make_model, list_pool(2), "CompositeStudent", methods={"RRD": 1.0, "CLDRD": 1.0}, stage_rule="plateau")
    assert both.ranks_everyone(4)
    both.parts["CLDRD"].stage = len(both.parts["CLDRD"].ordered) - 1
    assert not both.ranks_everyone(4)


def test_all_methods_teach_the_one_student_and_none_brings_another(make_model, list_pool) -> None:
    composite = learnt(make_model, list_pool(2), "CompositeStudent", methods={"RRD": 1.0, "HetComp": 1.0})
    assert set(composite.state_dict()) == {f"backbone.{name}" for name in make_model("MF").state_dict()}
    assert all(torch.equal(a, b) for a, b in zip(composite.backbone.parameters(), make_model("MF").parameters()))
    composite.distillation_loss(Batch(composite.history.active_users[:10], None)).backward()
    assert all(parameter.grad is not None for parameter in composite.backbone.parameters())


@pytest.mark.parametrize(
    ("methods", "sentence"),
    [
        ({}, "not of the form"),
        ("RRD", "must be a dict of settings, such as {'DE': 0.01, 'RRD': 0.1}"),
        ({"RRD": "much"}, "not of the form"),
        *(({"RRD": weight}, "weights of at least 0") for weight in (-0.1, float("nan"), float("inf"), True)),
        ({"RRX": 1.0}, "'RRX' is no single distillation method; did you mean"),
        ({"RRDStudent": 1.0}, "'RRDStudent' is no single distillation method; did you mean 'RRD'"),
        ({"Composite": 1.0}, "no single distillation method"),
        ({"DERRD": 1.0, "CD": 1.0}, "no single distillation method"),
    ],
)
def test_what_names_no_methods_with_weights_is_one_sentence(make_model, methods, sentence) -> None:
    with pytest.raises(UserError, match=sentence):
        make_model("CompositeStudent", methods=methods)


def test_a_sum_over_users_is_not_added_to_means(make_model) -> None:
    with pytest.raises(UserError, match=r"^loss_reduction: "):
        make_model("CompositeStudent", methods={"RRD": 1.0, "HetComp": 1.0}, loss_reduction="sum")


def test_the_settings_of_its_methods_are_known(make_config) -> None:
    given = {"methods": {"RRD": 1.0, "DE": 0.1}, "n_experts": 3, "list_depth": 9, "n_soft_labels": 5}
    assert set(make_config("CompositeStudent", **given).unknown_keys(given)) == {"n_soft_labels"}


def test_a_part_is_trained_as_the_composite_is(make_model) -> None:
    """HetComp's yaml says eval_step: 10, base_loss_weight: 0 and user_batches: True, none of which is in force here."""
    methods = {"methods": {"HetComp": 1.0, "RRD": 1.0}, "curriculum_period": 5, "eval_step": 5}
    composite = make_model("CompositeStudent", **methods)
    for part in composite.parts.values():
        for key in (*composite.config.parameters["Training"], "base_loss_weight", "user_batches"):
            assert part.config[key] == composite.config[key], key
    assert composite.parts["HetComp"].config["n_targets"] == 100  # its own
    assert composite.parts["HetComp"].config["curriculum"] is True
    assert composite.parts["RRD"].config["curriculum"] is False


def test_a_period_is_held_against_the_eval_step_in_force(make_config, split, list_pool) -> None:
    settings = {"data_path": make_config("BPR")["data_path"].removesuffix("/toy"), "checkpoint_dir": "saved", "seed": 11}
    methods = {"methods": {"HetComp": 1.0}, "use_gpu": False}

    def composite(**more) -> CompositeStudent:
        given = {**settings, **methods, **more}
        return CompositeStudent(Config("CompositeStudent", "toy", config_dict=given, arguments=()), split.train)

    files = (properties_dir() / "teacher" / "MF.yaml", properties_dir() / "model" / "HetCompStudent.yaml")
    of_mf, own = (yaml.safe_load(file.read_text(encoding="utf-8"))["eval_step"] for file in files)
    assert own % of_mf != 0  # so that they can be told apart
    assert composite(curriculum_period=2 * of_mf).parts["HetComp"].config["eval_step"] == of_mf
    with pytest.raises(UserError, match=rf"^curriculum_period: {own} is no multiple of eval_step \({of_mf}\)"):
        composite(curriculum_period=own)
    period = composite().parts["HetComp"].target_lists(list_pool(1), 5).curriculum.period
    assert period >= own
    assert period % of_mf == 0  # none is given, so it is made one


def test_what_the_composites_own_file_sets_wins_over_its_methods_files(make_model, tmp_path, monkeypatch) -> None:
    (tmp_path / "own.yaml").write_text("methods: {'RRD': 1.0}\nlist_depth: 7\n")
    find = compositestudent.properties_of
    own = {"CompositeStudent": tmp_path / "own.yaml"}
    monkeypatch.setattr(compositestudent, "properties_of", lambda name: own.get(name) or find(name))
    part = make_model("CompositeStudent", methods={"RRD": 1.0}).parts["RRD"]
    assert part.config["n_interesting"] == 40
    assert "list_depth" not in make_model("CompositeStudent", methods={"RRD": 1.0})._settings_of("RRD")


NOTHING = {
    "EmbedDistill": {"score_weight": 0.0, "user_weight": 0.0, "item_weight": 0.0, "pseudo_weight": 0.0},
    "CUKD": {"anchor_weight": 0.0},
    "DisWOT": {"relation_weight": 0.0, "semantic_weight": 0.0},
    "EGA": {"node_weight": 0.0, "edge_weight": 0.0},
    "Reverse": {"restore_weight": 0.0},
}


@pytest.mark.parametrize("name", NOTHING)
def test_a_method_that_cannot_be_trained_is_refused_as_it_is_alone(make_model, name) -> None:
    given = {**NOTHING[name], "base_loss_weight": 0.0, "user_batches": False}
    with pytest.raises(UserError) as alone:
        make_model(f"{name}Student", **given).check_trainable()
    with pytest.raises(UserError) as error:
        make_model("CompositeStudent", methods={name: 1.0}, **given).check_trainable()
    assert error.value.sentence == f"methods: {name}: {alone.value.sentence}"
    assert len(error.value.sentence) <= 400


@pytest.mark.parametrize("name", sorted(NOTHING.keys() - {"EmbedDistill"}))
def test_a_method_beside_one_with_a_loss_need_have_none(make_model, name) -> None:
    """The start that CUKD gives, and the encoders of Reverse, are trained by the other's; with a weight of 0 it has none."""
    given = {**NOTHING[name], "base_loss_weight": 0.0, "user_batches": False}
    make_model("CompositeStudent", methods={name: 1.0, "RRD": 1.0}, **given).check_trainable()
    with pytest.raises(UserError, match=f"methods: {name}: "):
        make_model("CompositeStudent", methods={name: 1.0, "RRD": 0.0}, **given).check_trainable()


def test_weights_of_0_alone_teach_nothing(make_model) -> None:
    weights = {"methods": {"RRD": 0.0, "DE": 0.0}, "user_batches": False}
    make_model("CompositeStudent", **weights, base_loss_weight=1.0).check_trainable()
    with pytest.raises(UserError, match="methods: weights of 0 and base_loss_weight: 0 leave nothing to learn"):
        make_model("CompositeStudent", **weights, base_loss_weight=0.0).check_trainable()


def test_what_is_the_students_is_checked_once_and_a_curriculum_is_that_of_any_method(make_model, caplog) -> None:
    """DE has no lists, and RRD beside it follows the curriculum; a warning about the student is not said for each."""
    given = {"methods": {"RRD": 1.0, "DE": 1.0, "FitNet": 1.0}, "student": "NeuMF", "n_experts": 3}
    make_model("CompositeStudent", **given, curriculum=True).check_trainable()
    assert sum("scores lie in [0, 1]" in record.message for record in caplog.records) == 1
