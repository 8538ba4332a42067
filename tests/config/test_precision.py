"""Mixed precision is done on a CPU too; what would be ignored is refused before any work."""

from __future__ import annotations

import pytest
import torch

from recbole_hetcomp.commands import pipeline
from recbole_hetcomp.commands.benchmark import run_benchmark
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.quick_start import run_hetcomp


@pytest.fixture
def nothing_is_read(monkeypatch) -> None:
    monkeypatch.setattr(pipeline, "make_split", lambda *_: pytest.fail("work has begun"))


@pytest.mark.parametrize("model", ["HetCompStudent", "RRDStudent", "BPR", "EASE"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.usefixtures("nothing_is_read")
def test_another_default_dtype_of_torch_is_refused(settings, model, dtype) -> None:
    """Teachers that are stored, or trained in processes of their own, have float32."""
    torch.set_default_dtype(dtype)
    try:
        with pytest.raises(
            UserError, match=rf"^torch's default dtype is {dtype}, .* torch\.set_default_dtype\(torch\.float32\)"
        ):
            run_hetcomp(model, "toy", config_dict=settings, arguments=())
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    ("model", "given", "where"),
    [
        ("BPR", {"enable_scaler": True}, ""),
        ("HetCompStudent", {"enable_scaler": True, "enable_amp": True}, ""),
        ("HetCompStudent", {"teacher_config": {"BPR": {"enable_scaler": True}}}, "teacher_config of BPR: "),
        ("HetCompStudent", {"without_distillation_config": {"enable_scaler": True}}, "without_distillation_config: "),
    ],
)
@pytest.mark.usefixtures("nothing_is_read")
def test_scaled_gradients_are_refused_on_a_cpu(settings, model, given, where) -> None:
    with pytest.raises(UserError, match=f"^{where}enable_scaler: True scales gradients on a GPU alone, .* 'cpu'"):
        run_hetcomp(model, "toy", config_dict={**settings, **given}, arguments=())


def test_scaled_gradients_are_refused_in_a_benchmark(settings) -> None:
    with pytest.raises(UserError, match=r"^enable_scaler: True scales"):
        run_benchmark(["BPR", "MF"], "toy", config_dict={**settings, "enable_scaler": True}, arguments=())


@pytest.mark.parametrize(
    ("model", "own"), [("HetCompStudent", {"student": "DL"}), ("RRDStudent", {"student": "NeuMF"}), ("NeuMF", {})]
)
def test_mixed_precision_computes_in_bfloat16_on_a_cpu(settings, monkeypatch, model, own) -> None:
    """In RecBole's trainer and in ours: the numbers are others, near, and finite. MF's scores stay in float32."""
    entered = []

    class Observed(torch.autocast):  # type: ignore[misc]
        def __enter__(self):
            entered.append((self.device, self.fast_dtype, self._enabled))
            return super().__enter__()

    monkeypatch.setattr(torch, "autocast", Observed)
    parameters: list[torch.Tensor] = []
    if own.get("student", model) == "NeuMF":
        settings.pop("embedding_size")
    for enabled in (False, True):
        entered.clear()
        given = {
            "teachers": ["BPR"],
            "without_distillation": False,
            "enable_amp": enabled,
            "checkpoint_dir": f"saved-{enabled}",
        }
        result = run_hetcomp(model, "toy", config_dict={**settings, **own, **given}, arguments=())
        assert (("cpu", torch.bfloat16, True) in entered) is enabled
        parameters.append(torch.cat([parameter.detach().flatten() for parameter in result["model"].parameters()]))
    assert parameters[1].isfinite().all()
    assert 0 < (parameters[1] - parameters[0]).norm() < 0.2 * parameters[0].norm()
