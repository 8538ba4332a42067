"""Every method trains with `enable_amp`: a step in bfloat16 is finite, near the one in float32, and moves the student."""

from __future__ import annotations

import pytest
import torch

from recbole_hetcomp.config.registry import get_model, is_distilled, properties_dir
from recbole_hetcomp.trainer.distillation import DistillationTrainer, _gradient_scaler

DISTILLED = sorted(path.stem for path in properties_dir().glob("model/*.yaml") if is_distilled(get_model(path.stem)))
METHODS = [name for name in DISTILLED if "general" in get_model(name).families]
# A composite needs methods, a policy a choice from the first epoch; directions written into tables leave nothing to train.
OWN = {
    "CompositeStudent": {"methods": {"RRD": 0.1, "DE": 0.1}},
    "RLKDStudent": {"warmup_epochs": 0},
    "TinTeMStudent": {"mode": "gradient"},
}
TEACHERS = {"RLKDStudent": ["BPR", "EASE"]}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_in_half_precision(make_model, trained_pool, split, method) -> None:
    own = OWN.get(method, {})
    losses = []
    for enabled in (False, True):
        model = make_model(method, embedding_size=4, teacher_rank=8, enable_amp=enabled, **own)
        model.learn_from(trained_pool(*TEACHERS.get(method, ["BPR"])))
        model.on_epoch_start(0)
        trainer = DistillationTrainer(model.config, model)
        trainer.enable_amp = enabled  # RecBole switches it off without a GPU
        torch.manual_seed(1)
        batches = trainer.user_batches or split.loaders(model.config).train
        before = [parameter.detach().clone() for parameter in model.backbone.parameters()]
        parts = trainer._step(model.calculate_loss, next(iter(batches)), _gradient_scaler(False))
        losses.append(torch.stack(parts).sum().item())
        assert any(not torch.equal(old, new) for old, new in zip(before, model.backbone.parameters()))
        assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert losses[1] == pytest.approx(losses[0], rel=0.03)
