"""On a GPU all is as on the CPU; without one the same tests run on the CPU alone. `make bench-gpu` runs them first."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from recbole.utils import init_seed

from recbole_hetcomp.knowledge import Curriculum
from recbole_hetcomp.losses.catalogue import Dense
from recbole_hetcomp.losses.streaming import Vectors
from recbole_hetcomp.model.distilled_recommender.hetcompstudent import HetCompStudent
from recbole_hetcomp.quick_start import run_hetcomp
from recbole_hetcomp.serving.student import load_student
from recbole_hetcomp.testing.results import saved_state
from recbole_hetcomp.trainer import progress_file
from recbole_hetcomp.trainer.distillation import DistillationTrainer, _gradient_scaler
from recbole_hetcomp.trainer.progress_file import progress_of

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA GPU")
CPU = torch.device("cpu")
SETTINGS = {"n_targets": 10, "n_observed": 3, "train_batch_size": 16, "curriculum_period": 1, "learning_rate": 0.05}
CLOSE = {"rtol": 1e-3, "atol": 1e-4}  # sums on a GPU have another order


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])])
def device(request, monkeypatch) -> torch.device:
    """The CPU, or the first GPU; RecBole's Config hides GPUs through the environment, so CUDA starts before it."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES", "0"))
    if request.param == "cuda":
        torch.cuda.init()
    return torch.device(request.param)


@pytest.fixture
def training(make_config, split, list_pool):
    """`training(device, **settings)`: a trainer of a HetComp student that has learnt from two teachers, and the loaders."""

    def make(device: torch.device, **settings: Any) -> tuple[DistillationTrainer, Any]:
        gpu = {"use_gpu": True, "gpu_id": "0"} if device.type == "cuda" else {}
        config = make_config("HetCompStudent", **SETTINGS, **settings, **gpu)
        assert config["device"].type == device.type
        init_seed(config["seed"], True)
        loaders = split.loaders(config)
        model = HetCompStudent(config, loaders.train._dataset).to(device)
        model.learn_from(list_pool(2))
        return DistillationTrainer(config, model), loaders

    return make


@contextmanager
def waiting_forbidden(device: torch.device) -> Iterator[None]:
    """Whatever waits for the GPU raises."""
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")


def parameters(trainer: DistillationTrainer) -> dict[str, torch.Tensor]:
    return {name: value.cpu() for name, value in trainer.model.state_dict().items()}


def assert_close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, **CLOSE)


@pytest.mark.parametrize("transfer", ["overall", "fine"])
def test_an_epoch_gives_what_it_gives_on_the_cpu(training, device, transfer) -> None:
    results = []
    for place in (CPU, device):
        trainer, loaders = training(place, transfer=transfer)
        loss = trainer._train_epoch(loaders.train, 0)
        results.append((loss, parameters(trainer)))
    assert results[1][0] == pytest.approx(results[0][0], rel=1e-4)
    assert_close(results[1][1], results[0][1])


@pytest.mark.parametrize("transfer", ["overall", "fine"])
def test_a_step_waits_for_nothing(training, device, transfer) -> None:
    trainer, _ = training(device, transfer=transfer)
    first, second, *_ = trainer.user_batches
    trainer._step(trainer.model.calculate_loss, first, _gradient_scaler(False))  # what is copied there once is there now
    with waiting_forbidden(device):
        parts = trainer._step(trainer.model.calculate_loss, second, _gradient_scaler(False))
    assert torch.stack(parts).isfinite().all()


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])], indirect=True)
def test_every_method_trains_its_student_from_teachers_that_were_trained_there(settings, device, any_method) -> None:
    """Two epochs: the student is the backbone alone, has learnt there, and serves the same from its file.

    On the CPU alone this is tests/contract.
    """
    name, own = any_method
    given = {**settings, "use_gpu": True, "gpu_id": "0", "without_distillation": False, "teacher_rank": 8, **own}
    result = run_hetcomp(name, "toy", config_dict=given, arguments=(), compare=False)
    model = result["model"]
    trained = dict(model.named_parameters())
    assert {value.device.type for value in trained.values()} == {device.type}
    assert all(value.isfinite().all() for value in trained.values())
    assert 0 < result["test_result"]["recall@10"] <= 1
    assert trained.keys() == saved_state(result).keys()
    _, served, _ = load_student(result["checkpoint"])
    users = model.history.active_users
    with torch.no_grad():
        torch.testing.assert_close(served.scores(users).cpu(), model.scores(users).cpu(), **CLOSE)


@pytest.mark.parametrize("stored_bytes", [0, 2**26])
def test_the_streamed_log_mass_is_the_dense_one(device, stored_bytes) -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = [torch.randn(n, 16, generator=generator) for n in (32, 3_000)]
    excluded = torch.randint(0, 3_000, (32, 40), generator=generator)
    users, items = (tensor.to(device, copy=True).requires_grad_() for tensor in vectors)
    streamed = Vectors(users, items, stored_bytes).log_mass(excluded.to(device))
    streamed.sum().backward()
    of_users, of_items = (tensor.double().requires_grad_() for tensor in vectors)  # on the CPU
    dense = Dense(of_users @ of_items.T).log_mass(excluded)
    dense.sum().backward()
    for found, expected in ((streamed, dense), (users.grad, of_users.grad), (items.grad, of_items.grad)):
        assert found is not None
        torch.testing.assert_close(found.cpu().double(), expected, **CLOSE)


def test_the_curriculum_moves_as_on_the_cpu(device) -> None:
    generator = torch.Generator().manual_seed(0)
    lists = torch.stack([torch.randperm(200, generator=generator)[:50] + 1 for _ in range(3 * 4 * 40)]).view(3, 4, 40, 50)
    checks = [lists[0, stage].roll(1, 1) for stage in (0, 1, 1, 2, 3)]
    found = []
    for place in (CPU, device):
        curriculum = Curriculum(3, 40, 4, rule="patient", max_dwell=2)
        moved = [curriculum.advance(check.to(place), lists, 10 * i) for i, check in enumerate(checks, 1)]
        found.append((torch.stack(moved), curriculum.stage))
    assert found[0][0].any()
    assert torch.equal(found[1][0], found[0][0])
    assert torch.equal(found[1][1], found[0][1])


def test_bfloat16_gives_finite_losses_and_gradients(training, device) -> None:
    trainer, _ = training(device, transfer="fine")
    batch = next(iter(trainer.user_batches))
    with torch.autocast(device.type, torch.bfloat16):
        loss = trainer.model.calculate_loss(batch)
    loss.backward()
    assert loss.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in trainer.model.parameters())
    assert loss.item() == pytest.approx(trainer.model.calculate_loss(batch).item(), rel=0.03)


def test_a_resumed_training_ends_as_an_uninterrupted_one(training, device, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(progress_file, "pause_after", lambda seconds: 0.0)
    whole, loaders = training(device, epochs=4)
    whole.fit(loaders.train, loaders.valid, verbose=False, saved=False)
    for epochs in (2, 4):  # the first process ends after writing what a third epoch would begin with
        trainer, loaders = training(device, epochs=epochs)
        trainer.resume(tmp_path / "progress")
        trainer.fit(loaders.train, loaders.valid, verbose=False, saved=False)
        if epochs == 2:
            trainer.progress.write(lambda trainer=trainer: progress_of(trainer, 2, trainer.user_batches))
    assert trainer.start_epoch == 2
    assert_close(parameters(trainer), parameters(whole))


def test_the_copy_of_the_best_student_takes_no_memory_of_the_device(training, device, tmp_path) -> None:
    trainer, loaders = training(device, epochs=2)
    trainer.resume(tmp_path / "progress")
    trainer.fit(loaders.train, loaders.valid, verbose=False, saved=True)
    again, _ = training(device, epochs=4)
    trainer.progress.write(lambda: progress_of(trainer, 2, trainer.user_batches))
    again.resume(tmp_path / "progress")
    for best in (trainer.best, again.best):
        assert {tensor.device.type for tensor in best["state_dict"].values()} == {"cpu"}
        moments = [value for state in best["optimizer"]["state"].values() for value in state.values()]
        assert moments
        assert {value.device.type for value in moments} == {"cpu"}


def test_the_benchmark_runs_on_the_cpu_and_skips_without_a_gpu(monkeypatch, capsys) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu

    assert gpu.main(["--device=cpu", "--small"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if "items" in line and line.startswith("| ")]) == 11
    assert any("commit" in line for line in lines)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 0
    assert capsys.readouterr().out == "bench-gpu: torch finds no CUDA GPU here, so nothing is measured.\n"
