"""The curriculum: the rules case by case, a loop over pairs as oracle, and what holds whatever the lists."""

from __future__ import annotations

import io
import math
from typing import Any, Optional

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recbole_hetcomp.knowledge import RULES, Curriculum, discrepancy

N_STAGES = 4
CHECKS = range(10, 310, 10)


def random_teachers(seed: int, n_teachers: int = 3, n_users: int = 6, n_stages: int = N_STAGES, k: int = 5) -> Tensor:
    """[X, E, U, k]: different items in each list, out of 12, so that lists overlap."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n_teachers, n_stages, n_users, 12, generator=generator).argsort(-1)[..., :k] + 1


def random_student(seed: int, n_users: int = 6, k: int = 5) -> Tensor:
    return torch.rand(n_users, 12, generator=torch.Generator().manual_seed(seed)).argsort(-1)[:, :k] + 1


class SlowCurriculum:
    """One (teacher, user) pair, written from the rule in plain Python numbers."""

    def __init__(self, rule: str, max_dwell: int, relevance: str) -> None:
        self.rule, self.max_dwell, self.relevance = rule, max_dwell, relevance
        self.stage, self.waited, self.reference = 0, 0, math.nan
        self.first = True

    def distance(self, student: Tensor, teacher: Tensor) -> float:
        following = teacher[min(self.stage + 1, len(teacher) - 1)]
        decimals: Optional[int] = None if self.rule == "patient" else 4
        return discrepancy(student[None], following[None], k=4, relevance=self.relevance, decimals=decimals).item()

    def advance(self, student: Tensor, teacher: Tensor, epoch: int) -> bool:
        now = self.distance(student, teacher)
        if self.first:
            self.first, self.reference = False, now
            return False
        if self.stage == len(teacher) - 1:
            return False
        threshold = 1.05 * 0.995 ** (epoch // 10)
        gamma = math.inf if now == 0 else self.reference / now
        moves = {
            "official": gamma > threshold or gamma < 1,
            "submission": gamma > threshold,
            "patient": gamma > threshold or self.waited >= self.max_dwell,
        }[self.rule]
        if not moves:
            self.waited += 1
            return False
        self.stage, self.waited = self.stage + 1, 0
        self.reference = self.distance(student, teacher)
        return True


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [(20, 1.0395), (40, 1.0292), (60, 1.0189), (80, 1.0087), (90, 1.0037), (100, 0.9987), (120, 0.9887)],
)
def test_threshold_decays_as_published(epoch: int, expected: float) -> None:
    assert Curriculum(1, 1).threshold(epoch) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(
    ("reference", "now", "official", "submission"),
    [(0.50, 0.480, True, True), (0.50, 0.485, False, False), (0.50, 0.52, True, False)],
)
def test_rules_at_epoch_20(reference: float, now: float, official: bool, submission: bool) -> None:
    gamma, threshold = torch.tensor([reference / now]), Curriculum(1, 1).threshold(20)
    held_back, overdue = torch.tensor([False]), torch.tensor([True])
    assert RULES["official"].moves_on(gamma, threshold, held_back).item() is official
    assert RULES["submission"].moves_on(gamma, threshold, overdue).item() is submission
    assert RULES["patient"].moves_on(gamma, threshold, held_back).item() is submission
    assert RULES["patient"].moves_on(gamma, threshold, overdue).item()


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 10**6),
    rule=st.sampled_from(list(RULES)),
    relevance=st.sampled_from(["position", "graded"]),
    max_dwell=st.integers(0, 4),
    n_stages=st.integers(1, 5),
)
def test_curriculum_equals_a_loop_over_pairs(seed: int, rule: str, relevance: str, max_dwell: int, n_stages: int) -> None:
    teachers = random_teachers(seed, n_teachers=2, n_users=4, n_stages=n_stages)
    slow = [[SlowCurriculum(rule, max_dwell, relevance) for _ in range(4)] for _ in range(2)]
    fast = Curriculum(2, 4, n_stages, rule=rule, relevance=relevance, max_dwell=max_dwell, k=4)
    for epoch in range(10, 130, 10):
        student = random_student(seed + epoch // 30, n_users=4)  # the same at some checks: gamma is 1 there
        moved = fast.advance(student, teachers, epoch)
        expected = [[slow[x][u].advance(student[u], teachers[x, :, u], epoch) for u in range(4)] for x in range(2)]
        assert moved.tolist() == expected
        assert fast.stage.tolist() == [[pair.stage for pair in row] for row in slow]
        unfinished = fast.stage < n_stages - 1
        reference = torch.tensor([[pair.reference for pair in row] for row in slow])
        torch.testing.assert_close(fast.reference[unfinished], reference[unfinished], rtol=0, atol=0)


def test_the_first_check_only_notes_where_the_student_stands() -> None:
    teachers, student = random_teachers(0), random_student(1)
    curriculum = Curriculum(3, 6, k=5)
    moved = curriculum.advance(student, teachers, 10)
    assert moved.dtype == torch.bool
    assert moved.shape == (3, 6)
    assert not moved.any()
    assert not curriculum.stage.any()
    assert torch.equal(curriculum.reference, discrepancy(student, teachers[:, 1], k=5, decimals=4))


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), rule=st.sampled_from(list(RULES)))
def test_a_pair_never_goes_back_nor_skips_a_stage(seed: int, rule: str) -> None:
    teachers = random_teachers(seed)
    curriculum = Curriculum(3, 6, rule=rule)
    for epoch in CHECKS:
        before = curriculum.stage.clone()
        moved = curriculum.advance(random_student(seed + epoch), teachers, epoch)
        assert torch.equal(curriculum.stage.int() - before.int(), moved.int())
        assert curriculum.stage.max() <= N_STAGES - 1


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), constant=st.booleans())
def test_official_ends_by_epoch_120_whatever_the_lists(seed: int, constant: bool) -> None:
    teachers = random_teachers(seed)
    curriculum = Curriculum(3, 6)
    for epoch in range(10, 130, 10):
        assert curriculum.due(epoch)
        curriculum.advance(random_student(seed if constant else seed + epoch), teachers, epoch)
    assert curriculum.finished
    assert (curriculum.stage == 3).all()


def test_official_can_end_at_epoch_40_and_no_earlier() -> None:
    teachers = random_teachers(0)
    curriculum = Curriculum(3, 6)
    finished = {}
    for epoch in (10, 20, 30, 40):  # at each check the student is just where the next checkpoint of teacher 0 is
        student = teachers[0, min(epoch // 10, 3)]
        curriculum.advance(student, teachers[:1].expand(3, -1, -1, -1), epoch)
        finished[epoch] = curriculum.finished
    assert finished == {10: False, 20: False, 30: False, 40: True}


def drifting(rule: str, n_checks: int, **settings: Any) -> list[int]:
    """Stages over the checks of a pair whose student begins near the teacher and then has nothing in common with it."""
    near, far = torch.tensor([[1, 2, 3, 90, 91]]), torch.tensor([[95, 96, 97, 98, 99]])
    teachers = torch.arange(1, 6).expand(1, N_STAGES, 1, 5)
    curriculum = Curriculum(1, 1, rule=rule, **settings)
    stages = []
    for check in range(n_checks):
        curriculum.advance(far if check else near, teachers, 10 * (check + 1))
        stages.append(int(curriculum.stage))
    return stages


def test_submission_does_not_force_a_drifting_pair() -> None:
    assert drifting("submission", 30) == [0] * 30
    assert drifting("official", 5)[1] == 1


@pytest.mark.parametrize("max_dwell", [0, 1, 5])
def test_patient_holds_a_pair_back_max_dwell_times(max_dwell: int) -> None:
    # The discrepancy has risen to 1 and stays there: gamma never exceeds the threshold, which does not decay here.
    stages = drifting("patient", 25, max_dwell=max_dwell, decay=1.0)
    checks = max_dwell + 1
    assert stages == [min(3, check // checks) for check in range(25)]


@pytest.mark.parametrize("rule", list(RULES))
def test_a_student_that_is_already_there_moves_on(rule: str) -> None:
    teachers = random_teachers(0, n_teachers=1)[:, 3:].expand(1, N_STAGES, 6, 5)
    curriculum = Curriculum(1, 6, rule=rule)
    for epoch, stage in {10: 0, 20: 1, 30: 2, 40: 3}.items():  # the discrepancy is 0 before and after: 0 / 0
        curriculum.advance(teachers[0, 0], teachers, epoch)
        assert (curriculum.stage == stage).all()
    assert curriculum.finished


@pytest.mark.parametrize("rule", list(RULES))
def test_pairs_without_a_list_do_not_hold_up_the_end(rule: str) -> None:
    teachers, student = random_teachers(4).clone(), random_student(5)
    teachers[:, :, 0], student[0] = 0, 0  # the padding user
    teachers[1, :, 4] = 0  # one teacher knows nothing of user 4
    teachers[2, 0, 5] = 0  # a single empty checkpoint is no reason
    curriculum = Curriculum(3, 6, rule=rule)
    moved = curriculum.advance(student, teachers, 10)
    expected = torch.zeros(3, 6, dtype=torch.uint8)
    expected[:, 0], expected[1, 4] = 3, 3
    assert torch.equal(curriculum.stage, expected)
    assert not moved.any()
    assert curriculum.mean_stage == 0.0
    for epoch in (20, 30, 40):
        assert not curriculum.advance(student, teachers, epoch)[expected == 3].any()


def test_mean_stage_is_over_the_pairs_with_lists() -> None:
    teachers = random_teachers(4).clone()
    teachers[:, :, 0] = 0
    curriculum = Curriculum(3, 6)
    assert curriculum.mean_stage == 0.0
    curriculum.advance(random_student(5), teachers, 10)
    curriculum.stage[:, 1:] = 2
    curriculum.stage[0, 1] = 1
    assert curriculum.mean_stage == pytest.approx(29 / 15)


def test_finished_lets_one_user_in_two_hundred_lag_for_each_teacher() -> None:
    curriculum = Curriculum(2, 200)
    assert not curriculum.finished
    curriculum.stage[:] = 3
    assert curriculum.finished
    curriculum.stage[:, 7] = 2
    assert curriculum.finished  # 2.995 rounds to 3
    curriculum.stage[1, 8] = 2
    assert not curriculum.finished  # 2.99, whatever the other teacher


def test_a_single_stage_is_finished_from_the_start() -> None:
    curriculum = Curriculum(3, 6, 1)
    assert curriculum.finished
    for epoch in (10, 20):
        assert not curriculum.advance(random_student(0), random_teachers(0, n_stages=1), epoch).any()
    assert not curriculum.stage.any()


@pytest.mark.parametrize("rule", list(RULES))
def test_a_resumed_curriculum_equals_an_uninterrupted_one(rule: str) -> None:
    teachers = random_teachers(8)
    for interruption in (0, 10, 40, 70):
        whole, before, after = (Curriculum(3, 6, rule=rule, max_dwell=2, k=5) for _ in range(3))
        for epoch in range(10, 130, 10):
            student = random_student(epoch // 20)
            if epoch == interruption + 10:
                file = io.BytesIO()
                torch.save(before.state_dict(), file)
                after.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
            moved = whole.advance(student, teachers, epoch)
            part = before if epoch <= interruption else after
            assert torch.equal(part.advance(student, teachers, epoch), moved)
        assert torch.equal(after.stage, whole.stage)
        assert torch.equal(after.reference, whole.reference)
        assert after.state_dict().keys() == whole.state_dict().keys()


def test_a_state_does_not_change_with_the_curriculum_it_was_taken_from() -> None:
    curriculum = Curriculum(3, 6)
    state = curriculum.state_dict()
    curriculum.stage += 1
    assert not state["stage"].any()
    curriculum.load_state_dict(state)
    curriculum.stage += 1
    assert not state["stage"].any()


@pytest.mark.parametrize("other", [(3, 7, 4), (2, 6, 4), (3, 6, 5)])
def test_a_state_of_another_shape_is_refused(other: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="the state is of"):
        Curriculum(3, 6, 4).load_state_dict(Curriculum(*other).state_dict())


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), rule=st.sampled_from(list(RULES)))
def test_pairs_are_independent_of_each_other(seed: int, rule: str) -> None:
    teachers = random_teachers(seed)
    generator = torch.Generator().manual_seed(seed)
    of_users, of_teachers = torch.randperm(6, generator=generator), torch.randperm(3, generator=generator)
    whole, shuffled = Curriculum(3, 6, rule=rule, max_dwell=2), Curriculum(3, 6, rule=rule, max_dwell=2)
    first, second = Curriculum(3, 4, rule=rule, max_dwell=2), Curriculum(3, 2, rule=rule, max_dwell=2)
    for epoch in range(10, 80, 10):
        student = random_student(seed + epoch // 20)
        whole.advance(student, teachers, epoch)
        shuffled.advance(student[of_users], teachers[of_teachers][:, :, of_users], epoch)
        first.advance(student[:4], teachers[:, :, :4], epoch)
        second.advance(student[4:], teachers[:, :, 4:], epoch)
    assert torch.equal(shuffled.stage, whole.stage[of_teachers][:, of_users])
    assert torch.equal(shuffled.reference, whole.reference[of_teachers][:, of_users])
    assert torch.equal(torch.cat([first.stage, second.stage], 1), whole.stage)
    assert torch.equal(torch.cat([first.reference, second.reference], 1), whole.reference)


def test_lists_are_read_to_depth_k() -> None:
    teachers, student = random_teachers(2, k=8), random_student(3, k=8)
    deep, cut = Curriculum(3, 6, k=5), Curriculum(3, 6, k=5)
    for epoch in (10, 20, 30):
        deep.advance(student.int(), teachers.int(), epoch)
        cut.advance(student[:, :5], teachers[..., :5], epoch)
    assert torch.equal(deep.stage, cut.stage)
    assert torch.equal(deep.reference, cut.reference)


def test_checks_are_due_every_period_from_the_first_on() -> None:
    curriculum = Curriculum(1, 1, period=5)
    assert [epoch for epoch in range(21) if curriculum.due(epoch)] == [5, 10, 15, 20]


def test_state_keeps_its_types() -> None:
    curriculum = Curriculum(3, 6)
    for epoch in (10, 20):
        curriculum.advance(random_student(0), random_teachers(0), epoch)
    assert curriculum.stage.dtype == torch.uint8
    assert curriculum.reference.dtype == torch.float32
    assert curriculum.stage.shape == curriculum.reference.shape == (3, 6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rule": "offical"}, "official, submission, patient"),
        ({"relevance": "binary"}, "position, graded"),
        ({"n_stages": 0}, "n_stages=0 must be at least 1"),
        ({"period": 0}, "period=0 must be at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Curriculum(3, 6, **settings)


def test_lists_of_another_shape_are_refused() -> None:
    curriculum = Curriculum(3, 6)
    with pytest.raises(ValueError, match="student_topk is"):
        curriculum.advance(random_student(0, n_users=5), random_teachers(0), 10)
    with pytest.raises(ValueError, match="teacher_topk is"):
        curriculum.advance(random_student(0), random_teachers(0, n_stages=3), 10)
