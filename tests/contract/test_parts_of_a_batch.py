"""What several processes may share: a wrong `user_by_user` is found, and who is refused is named."""

from __future__ import annotations

import pytest

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.registry import get_model
from recbole_hetcomp.testing.parts_of_a_batch import USERS_ALONE, PartsOfABatch
from recbole_hetcomp.trainer.processes import Processes

TWO = Processes(2, 2, 0, "localhost", 5678)


@pytest.mark.parametrize(("method", "wrong"), [("FTDStudent", True), ("RRDStudent", False)])
def test_a_method_that_says_the_wrong_thing_of_itself_does_not_fulfil_the_contract(
    make_config, make_model, split, monkeypatch, method, wrong
) -> None:
    contract = type("Wrong", (PartsOfABatch,), {"method": method})()
    check = contract.test_the_parts_of_a_batch_add_up_to_the_whole_where_its_class_says_so
    check(make_config, make_model, split)
    monkeypatch.setattr(get_model(method), "user_by_user", wrong)
    with pytest.raises(AssertionError, match="the parts add up"):
        check(make_config, make_model, split)


@pytest.mark.parametrize(("method", "refused"), [("FTDStudent", True), ("RRDStudent", False)])
def test_what_cannot_be_shared_is_refused_to_several_processes(make_config, method, refused) -> None:
    config = make_config(method, **USERS_ALONE)
    try:
        TWO.check(config)
        said = ""
    except UserError as error:
        said = str(error)
    assert said.startswith(f"nproc: the loss of {method} over a batch") == refused


def test_the_sentence_names_each_of_a_composites_methods_that_cannot_be_shared(make_config) -> None:
    config = make_config("CompositeStudent", methods={"FTD": 1.0, "RRD": 1.0, "DCD": 0.5}, **USERS_ALONE)
    with pytest.raises(UserError, match=r"^nproc: the loss of FTDStudent and DCDStudent over a batch .*; use --nproc=1$"):
        TWO.check(config)
