"""DE-RRD is DE and RRD on one student."""

from __future__ import annotations

import pytest

from recbole_hetcomp.model.batch import Batch


def test_its_loss_is_that_of_de_and_rrd_by_their_weights(make_model, trained_pool) -> None:
    pool = trained_pool("BPR")
    small = {"list_depth": 20, "n_interesting": 6, "n_uninteresting": 9, "sampled": False}
    both = make_model("DERRDStudent", methods={"DE": 0.5, "RRD": 2.0}, **small)
    both.learn_from(pool)
    both.on_epoch_start(0)
    users = both.history.active_users[:10]
    batch = Batch(users, both.history.padded(users).unique()[1:])
    state = {name: part.generator.get_state() for name, part in both.parts.items()}
    parts = {name: part.distillation_loss(batch).item() for name, part in both.parts.items()}
    for name, part in both.parts.items():  # the same draws once more
        part.generator.set_state(state[name])
    assert set(parts) == {"DE", "RRD"}
    assert both.distillation_loss(batch).item() == pytest.approx(0.5 * parts["DE"] + 2.0 * parts["RRD"], rel=1e-5)
    assert any(name.startswith("auxiliary.DE.") for name in both.state_dict())
    assert not any(name.startswith("auxiliary.") for name in both.served_state())
