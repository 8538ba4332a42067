"""A student whose softmax is compared with the teacher's over a few items a user: what all such methods share."""

from __future__ import annotations

from torch import Tensor

from recbole_hetcomp.losses.streaming import Vectors
from recbole_hetcomp.model.candidates import Candidates
from recbole_hetcomp.model.embedding_student import EmbeddingStudent
from recbole_hetcomp.teachers.pool import Needs, TeacherPool
from recbole_hetcomp.teachers.single import SingleTeacher


class CandidateStudent(EmbeddingStudent):
    """Takes vectors, and lists of `list_depth` items that candidates are drawn from; a subclass says what is learnt of them.

    Candidates are items of which the teacher has a vector, and users of whom the teachers say nothing have none.
    """

    needs = Needs(trajectories=True, scores=True)

    def learn_from(self, teachers: TeacherPool) -> None:
        """Takes vectors and lists, and what products of the vectors are divided by to be standardised scores."""
        super().learn_from(teachers)
        config = self.config
        self.lists = self.target_lists(teachers, config["list_depth"])
        together = SingleTeacher.from_config(teachers, self.history, config)
        self.deviations, self.without_list = together.deviations.to(self.device), together.without_list
        self.to_draw = Candidates.of(
            self.history,
            n_top=config["n_top"],
            n_random=config["n_random"],
            temperature=config["sampling_temperature"],
            among=None if self.covered is None else self.covered.item,
        )

    def candidates(self, users: Tensor) -> Tensor:
        """[B, 1 + n_top + n_random] int64, 0 = none left: a training item, items of the list, and others.

        Of `users` [B], both on the CPU; of those of whom the teachers say nothing there are none.
        """
        drawn = self.to_draw.from_lists(self.current_lists.on_cpu, users, self.generator)
        return drawn.masked_fill(self.without_list[users, None], 0)  # equal soft labels would level the student's order

    def teacher_scores(self, users: Tensor, items: Tensor) -> Tensor:
        """[B, n] float: products of the teacher's vectors of `users` [B] and `items` [B, n], as `soft` has them."""
        products = Vectors(self.teacher["user"][users], self.teacher["item"]).listed(items).scores
        return self.soft(users, products)

    def soft(self, users: Tensor, products: Tensor) -> Tensor:
        """[B, n] float: `products` [B, n] of the teacher's vectors as standardised scores over `score_temperature`."""
        return products / self.deviations[users, None] / self.config["score_temperature"]
