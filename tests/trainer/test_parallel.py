"""Two processes train the student that one trains, and fail together, in one sentence."""

from __future__ import annotations

import logging
import re
import signal
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_hetcomp.cli import main
from recbole_hetcomp.commands.pipeline import run_hetcomp
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.teacher_training.cache import cached
from recbole_hetcomp.teachers import Teacher, TeacherPool, Trajectory
from recbole_hetcomp.trainer import parallel, shared_batches
from recbole_hetcomp.trainer.processes import Processes, launch

PATIENCE = 120.0  # seconds to wait for a point of a run
# 60 users in batches of 59 and 1: shares of 30 and 29, then of 1 and none. The metric is always 1: the last epoch is kept.
COURSE = {
    "train_batch_size": 59,
    "curriculum_period": 1,
    "curriculum_max_dwell": 1,
    "stopping_step": 1000,
    "topk": [10, 81],
    "valid_metric": "Recall@81",
    "without_distillation": False,
    "state": "INFO",
    "verbose": True,
}


@pytest.fixture(autouse=True)
def _one_thread_each(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def flags(settings: dict[str, Any], **changes: Any) -> list[str]:
    own = {**settings, **COURSE, **changes}
    return ["--model=HetCompStudent", "--dataset=toy", *(f"--{key}={value}" for key, value in own.items())]


def members() -> list[psutil.Process]:
    """The processes that this one has started, in their order."""
    children = psutil.Process().children()
    found = [child for child in children if "--multiprocessing-fork" in child.cmdline()]
    return sorted(found, key=lambda child: child.create_time())


def saved_students(folder: Path) -> list[dict[str, Any]]:
    return [
        torch.load(path, weights_only=True) for path in sorted(folder.glob("*.pth"), key=lambda path: path.stat().st_mtime)
    ]


def course(text: str) -> list[str]:
    """What the log says of the curriculum after each epoch."""
    return re.findall(r"distillation \[.*?\]", re.sub(r"\x1b\[[0-9;]*m", "", text))


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert value.abs().max() > 0.1, "training has hardly moved it"
        assert (found[name] - value).abs().max() <= 1e-5, name


# --- whole runs -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_train_the_student_that_one_trains(settings, capfd, caplog):
    """Through a move of some users, of the others, and the switch of loss; teachers are trained by the first alone."""
    arguments, folder = flags(settings, epochs=6, learning_rate=0.05), Path(settings["checkpoint_dir"])
    assert main([*arguments, "--nproc=2"]) == 0
    text = capfd.readouterr().err
    assert text.count("training, to be cached in") == 2
    assert len(list(Path("log").glob("*/*"))) == len(list(Path("log_tensorboard").glob("*"))) == 1
    shared = (folder / "comparison.json").read_text()
    with caplog.at_level(logging.INFO):
        assert main(arguments) == 0
    alone = "\n".join(record.getMessage() for record in caplog.records)
    assert alone.count("nothing that matters has changed") == 2
    (two, one) = saved_students(folder)
    assert two["epoch"] == one["epoch"] == 5
    assert_close(two["state_dict"], one["state_dict"])
    assert two["best_valid_score"] == one["best_valid_score"] == 1

    said = course(alone)
    stages = [float(re.findall(r"stage ([\d.]+)/1", line)[0]) for line in said]
    assert stages[0] == 0 < stages[1] < stages[2] == 1
    assert ["overall" in line for line in said] == [True, True, False, False, False, False]
    assert course(text) == said
    metric = re.compile(r'"(?:recall|ndcg)@\d+": [\d.]+')
    assert metric.findall(shared) == metric.findall((folder / "comparison.json").read_text())
    assert not list(folder.glob("*.progress"))


@pytest.mark.slow
def test_a_killed_process_ends_the_others_and_the_same_command_goes_on(settings, capfd):
    # By BPR's default decay the sums of two processes and of one drift apart without any kill, too: by 6e-7 after 4 epochs,
    # 2e-6 after 20 and 5.9e-5 after 60. With this teacher they stay below the bound, so that resuming alone is tested.
    taught = {"all": {**settings["teacher_config"]["all"], "weight_decay": "0.07 / (users + items)"}}
    course = {"epochs": 60, "learning_rate": 0.05, "teachers": ["BPR"], "teacher_config": taught}
    arguments, folder = flags(settings, **course), Path(settings["checkpoint_dir"])
    killed: list[int] = []

    def kill_the_second() -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and not killed:
            time.sleep(0.005)
            for path in folder.glob("*.progress"):
                if torch.load(path, weights_only=True)["epoch"] >= 4:
                    second = members()[1]
                    second.send_signal(signal.SIGKILL)
                    killed.append(second.pid)

    watcher = threading.Thread(target=kill_the_second)
    watcher.start()
    code = main([*arguments, "--nproc=2"])
    watcher.join()
    assert killed
    assert (code, members()) == (2, [])
    sentences = [line for line in capfd.readouterr().err.splitlines() if line.startswith("hetcomp: ")]
    assert len(sentences) == 1
    assert "nproc: process 1 terminated with signal SIGKILL; what was kept so far stays" in sentences[0]
    assert main([*arguments, "--nproc=2"]) == 0
    (epoch,) = re.findall(r"Resuming\S*: epoch (\d+)", capfd.readouterr().err)
    assert 4 <= int(epoch) < 60
    assert main(arguments) == 0
    *_, two, one = saved_students(folder)
    assert two["epoch"] == one["epoch"] == 59
    assert_close(two["state_dict"], one["state_dict"])


@pytest.mark.slow
def test_a_failure_of_the_first_process_is_one_sentence_and_the_end_of_all(settings, capfd):
    hopeless = {"BPR": {"learning_rate": 1e30, "epochs": 2, "train_batch_size": 256}}
    started = time.monotonic()
    assert main([*flags(settings, teachers=["BPR"], teacher_config=hopeless), "--nproc=2"]) == 2
    assert time.monotonic() - started < PATIENCE
    error = capfd.readouterr().err
    assert "Traceback" not in error
    assert [line for line in error.splitlines() if line.startswith("hetcomp: ")] == [error.splitlines()[-1]]
    assert "BPR cannot be trained" in error.splitlines()[-1]
    assert members() == []


# --- what processes tell each other ---------------------------------------------------------------------------------

MEMBER = '''
import time
from pathlib import Path

import torch

from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.trainer import parallel, shared_batches


def talk(folder):
    """What one of two processes sees, until the first one fails and the other waits for it."""
    rank, file = parallel.rank(), Path(folder) / "file"
    assert (parallel.world_size(), parallel.is_first()) == (2, rank == 0)
    assert parallel.from_first({"a": [rank, 0.1, None], "b": "\\u00e9"}) == {"a": [0, 0.1, None], "b": "\\u00e9"}
    assert parallel.total(torch.tensor([rank, 5], dtype=torch.int32)).tolist() == [1, 10]
    assert parallel.share(torch.arange(5)).tolist() == [[0, 2, 4], [1, 3]][rank]

    def write_or_find():
        if rank == 0:
            time.sleep(0.5)
            file.write_text("there")
        return file.read_text()

    assert parallel.in_turn(write_or_find) == "there"
    torch.manual_seed(rank)
    model = torch.nn.Linear(3, 2)
    parallel.align(model)
    torch.manual_seed(0)
    assert torch.equal(model.weight, torch.nn.Linear(3, 2).weight)
    draws = []
    for epoch in (0, 1, 0):
        parallel.own_randomness(7, epoch)
        draws.append(torch.rand(1).item())
    assert (draws[0] == draws[2], draws[0] == draws[1]) == (rank > 0, False)
    parallel.agree([1, "same"], "never said")
    try:
        parallel.agree(rank, "they differ")
    except UserError as error:
        (Path(folder) / f"done-{rank}").write_text(str(error))
    parallel.wait()
    if rank == 0:
        raise UserError("failed alone")
    parallel.wait()
'''


def test_what_the_processes_tell_each_other_arrives(tmp_path, monkeypatch):
    (tmp_path / "hetcomp_member.py").write_text(MEMBER)
    monkeypatch.syspath_prepend(tmp_path)
    import hetcomp_member

    with pytest.raises(UserError, match=r"^failed alone$"):
        launch(partial(hetcomp_member.talk, str(tmp_path)), Processes.from_flags("2", "-1", "0", "localhost", None))
    assert [(tmp_path / f"done-{rank}").read_text() for rank in (0, 1)] == ["they differ", "they differ"]
    assert members() == []


def test_a_port_that_is_taken_is_one_sentence():
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"^port: the 2 processes did not meet at localhost:{port} .*already in use"):
            launch(print, Processes.from_flags("1", "2", "0", "localhost", str(port)))
    assert members() == []


# --- which processes ------------------------------------------------------------------------------------------------


def test_flags_are_recboles():
    assert Processes.from_flags("2", "4", "2", "10.0.0.1", "1234") == Processes(2, 4, 2, "10.0.0.1", 1234)
    assert Processes.from_flags("1", "2", "1", "10.0.0.1", None).port == 5678
    alone = Processes.from_flags("2", "-1", "0", "localhost", None)
    assert alone.world_size == 2
    assert alone.port > 0
    assert Processes.from_flags("1", "1", "0", "localhost", None).world_size == 1


WRONG_FLAGS = [
    (("x", "-1", "0", None), "nproc: 'x' is no whole number of at least 1"),
    (("0", "-1", "0", None), "nproc: '0' is no whole number of at least 1"),
    (("2", "0", "0", None), "world_size: '0' is no whole number of at least 1"),
    (("2", "3", "-1", None), "group_offset: '-1' is no whole number of at least 0"),
    (("2", "3", "2", None), r"world_size: 3 is less than group_offset \+ nproc \(2 \+ 2\)"),
    (("2", "-1", "0", "x"), "port: 'x' is no whole number of at least 1"),
]


@pytest.mark.parametrize(("given", "sentence"), WRONG_FLAGS)
def test_flags_that_do_not_go_together_are_named(given, sentence):
    nproc, world_size, offset, port = given
    with pytest.raises(UserError, match=f"^{sentence}"):
        Processes.from_flags(nproc, world_size, offset, "localhost", port)


def test_fewer_gpus_than_processes_are_named(make_config, monkeypatch):
    config = make_config("HetCompStudent", gpu_id="0")
    config["device"] = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match=r"^gpu_id: '0' gives 1 GPU\(s\) to 2 processes; .*--gpu_id=0,1"):
        Processes(2, 2, 0, "localhost", 5678).check(config)
    Processes(1, 2, 0, "localhost", 5678).check(config)


def test_processes_as_a_setting_are_refused(settings):
    with pytest.raises(UserError, match=r"^nproc: 2 is no setting but a flag"):
        run_hetcomp("HetCompStudent", "toy", config_dict={**settings, "nproc": 2}, arguments=())


# --- one gradient ---------------------------------------------------------------------------------------------------


@pytest.fixture
def student(make_model, split) -> Callable[..., Any]:
    """`student(**overrides)`: a student of random teachers, and of random weights that are not tiny."""

    def make(**overrides: Any) -> Any:
        model = make_model("HetCompStudent", n_targets=10, n_observed=3, **overrides)
        scores = torch.rand(2, split.history.n_users, split.history.n_items)
        users = torch.repeat_interleave(torch.arange(split.history.n_users), split.history.counts)
        scores[:, users, split.history.items] = -1
        scores[..., 0] = -1
        items = scores.topk(20, dim=2).indices.masked_fill(split.history.counts[None, :, None] == 0, 0)
        model.learn_from(TeacherPool([Teacher("random", Trajectory.from_lists(items))]))
        for parameter in model.parameters():
            nn.init.normal_(parameter)
        return model

    return make


def batch_of(model: Any, n_users: int) -> Interaction:
    return Interaction({model.USER_ID: model.history.active_users[torch.randperm(60)[:n_users]]})


@pytest.mark.parametrize(
    "settings_of_loss", [{}, {"loss_reduction": "sum"}, {"transfer": "fine"}, {"student": "DL"}], ids=str
)
@pytest.mark.parametrize(("n_users", "world_size"), [(1, 3), (7, 2), (8, 3), (6, 1)])
def test_the_parts_add_up_to_the_loss_and_the_gradient_of_the_batch(student, settings_of_loss, n_users, world_size):
    model = student(**settings_of_loss)
    batch = batch_of(model, n_users)
    loss = model.calculate_loss(batch)
    gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    whole = torch.cat([loss.detach().reshape(1), *(gradient.reshape(-1) for gradient in gradients)])
    parts = [shared_batches.part_of_loss(model, batch, rank, world_size) for rank in range(world_size)]
    assert whole.abs().max() > 1e-4
    torch.testing.assert_close(sum(parts), whole, rtol=1e-5, atol=1e-7)
    if n_users < world_size:
        assert not parts[-1].any()


def test_the_summed_gradient_reaches_the_parameters(student, monkeypatch):
    model = student()
    batch = batch_of(model, 7)
    model.calculate_loss(batch).backward()
    expected = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    others = shared_batches.part_of_loss(model, batch, 0, 3) + shared_batches.part_of_loss(model, batch, 2, 3)
    monkeypatch.setattr(parallel, "_several", lambda: True)
    monkeypatch.setattr(parallel.dist, "get_rank", lambda: 1)
    monkeypatch.setattr(parallel.dist, "get_world_size", lambda: 3)
    monkeypatch.setattr(parallel.dist, "all_reduce", lambda tensor, group: tensor.add_(others))
    loss = shared_batches.loss_of_all(model)(batch)
    torch.testing.assert_close(loss.item(), model.calculate_loss(batch).item())
    (2 * loss).backward()  # as a gradient scaler does
    for parameter, gradient in zip(model.parameters(), expected):
        torch.testing.assert_close(parameter.grad, 2 * gradient)


def test_a_process_that_does_not_see_the_teachers_of_the_first_trains_none(make_config, monkeypatch):
    monkeypatch.setattr(parallel, "rank", lambda: 1)
    with pytest.raises(UserError, match=r"^checkpoint_dir: process 1 does not see '.*BPR-0123.*'; share the folder"):
        cached(make_config("BPR"), "01234567", {}, lambda folder: pytest.fail("trained"))


def test_one_process_takes_the_models_own_loss(student):
    model = student()
    assert shared_batches.loss_of_all(model) == model.calculate_loss
    users = model.history.active_users
    assert torch.equal(parallel.share(users), users)


def test_a_student_that_normalises_over_batches_is_refused(monkeypatch):
    monkeypatch.setattr(parallel, "_several", lambda: True)
    with pytest.raises(UserError, match=r"^student: its BatchNorm1d needs whole batches"):
        parallel.align(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
