"""ReverseStudent: the student's vector is a code from which the vectors of all teachers are restored.

Source: Deng, Li, "Anomaly Detection via Reverse Distillation from One-Class Embedding", CVPR 2022,
https://arxiv.org/abs/2201.10703. There the decoder is the student and a large error marks an anomaly; here the code is
the student, teachers stand for feature scales, and `hetcomp anomalies` writes the errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from torch import Tensor, nn
from torch.nn.utils import parametrize

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.data.transfer import to_device
from recbole_hetcomp.losses.lookup import look_up
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.embedding_student import EmbeddingStudent
from recbole_hetcomp.model.functional_tables import Encoded, FunctionalTables
from recbole_hetcomp.model.one_class import (
    Decoders,
    encoder,
    of_size_one,
    over_known,
    restoration_errors,
    squared_errors,
)
from recbole_hetcomp.teachers.pool import Covered, TeacherPool
from recbole_hetcomp.teachers.single import SingleTeacher

SIDES = ("user", "item")
PAIRS_AT_ONCE = 2**14  # training pairs whose restored products are held at once
LEAST_WEIGHT = 1e-6  # of a training pair; exp(-A / median A) may come out as 0


class ReverseStudent(FunctionalTables, EmbeddingStudent):
    """L = L_base + weight * restore_weight * (mean over users of sum over k of 1 - cos(t_k, g_k(z)) + the same over items).

    z = f(t_1, ..., t_K) is the student's vector and has no parameters but those of f: one encoder f for users, one for
    items. The decoders g_k see the code alone. Teachers come in the order of their names, so their order in `teachers`
    changes nothing. Where a teacher does not know an entity, K times the mean over those that do stands for the sum over k;
    whom nobody knows has no part. After training the codes are ordinary tables, and `anomalies` has the errors of the epoch
    from which the student is kept.

    Attributes:
        teacher: for users and for items, [n, sum of D_k] float32, every teacher's table `of_size_one` beside the others
        known: for users and for items, [n, K] bool: which teacher knows whom
        sizes: D_k of each teacher
        names: of the teachers, in the order of `sizes`
        tokens: of users and of items in the data, by id
        anomalies: for users and for items, [n, K] float32 on the CPU: 1 - cos for each teacher, of the student that was
            saved last; where none is saved, of the last one, once training has ended. nan where the teacher does not know
            the entity
    """

    families = ("general",)  # its code is of tables of users and items

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        self.anomalies: dict[str, Tensor] = {}
        self.covered: Covered | None = None  # of whom any teacher knows anything, where that is not everybody
        self.tokens = {side: dataset.field2id_token[field] for side, field in zip(SIDES, (self.USER_ID, self.ITEM_ID))}
        self.pair_weights = torch.zeros(0)  # [N] of the training pairs, from the epoch on in which the batches heed them
        self.restore_weight = float(config["restore_weight"])
        self.linear = config["parts"] == "linear"
        self.errors = restoration_errors if config["restoration"] == "cosine" else squared_errors
        if config["denoise"] and "methods" in config:
            raise UserError("denoise: True redraws batches, which a composite shares; train Reverse alone, or leave it out")

    @property
    def writes_tables(self) -> bool:
        """Encoders take the place of both tables, whatever these were."""
        return bool(self.distillation_weight)

    def check_trainable(self) -> None:
        """Raise a UserError also where the student has no loss of its own, and nothing else is learnt, or denoised."""
        super().check_trainable()
        if not self.restore_weight and not self.has_other_loss:
            raise UserError("restore_weight: 0 and base_loss_weight: 0 leave nothing to learn; raise one of them")
        if self.config["denoise"] and not self.base_loss_weight:
            raise UserError(
                "denoise: True redraws the batches of the student's own loss, which base_loss_weight: 0 leaves out; "
                "raise that, or set denoise: False"
            )
        if self.config["denoise"] and not self.restore_weight:
            raise UserError(
                "denoise: True draws by how badly interactions are restored, and with restore_weight: 0 nothing learns to "
                "restore them; raise that, or set denoise: False"
            )

    def learn_from(self, teachers: TeacherPool) -> None:
        """Takes every teacher's vectors, and puts encoders in the place of the student's tables."""
        if not self.distillation_weight:  # plain training, with tables of its own
            return
        self._require_tables()
        self.take_vectors(teachers)
        with torch.random.fork_rng():
            torch.manual_seed(int(self.config["seed"]))
            for side in SIDES:
                code = self.codes(side).size(1)
                made = encoder(self.sizes, self.config["scale_size"], code, linear=self.linear)
                self.make_functional(f"{side}_embedding", Encoded(made.to(self.device), self.teacher[side]))
                self.auxiliary[side] = Decoders(self.sizes, code, linear=self.linear)
        self.auxiliary.to(self.device)

    def take_vectors(self, teachers: TeacherPool) -> None:
        """Fills `teacher`, `known`, `covered`, `sizes` and `names`."""
        ordered = sorted(teachers.teachers, key=lambda teacher: teacher.name)
        self.names = [teacher.name for teacher in ordered]
        alone = [SingleTeacher.from_config(TeacherPool([teacher]), self.history, self.config) for teacher in ordered]
        tables = [teacher.embeddings(self.config["teacher_rank"]) for teacher in alone]
        self.sizes = [users.size(1) for users, _ in tables]
        self.teacher, self.known = {}, {}
        for place, side in enumerate(SIDES):
            everybody = torch.ones(len(tables[0][place]), dtype=torch.bool)
            of_each = [everybody if one.covered is None else getattr(one.covered, side) for one in alone]
            known = self.known[side] = torch.stack(of_each, 1).to(self.device)
            rows = [of_size_one(pair[place].to(self.device), column) for pair, column in zip(tables, known.unbind(1))]
            self.teacher[side] = torch.cat(rows, 1)
        if any(one.covered is not None for one in alone):
            self.covered = Covered(*(self.known[side].any(1).cpu() for side in SIDES))

    def codes(self, side: str) -> Tensor:
        """[n, d]: the codes of all users or items, with gradients."""
        table: Tensor = self.backbone.get_submodule(f"{side}_embedding").weight
        return table

    # ---- the losses ---------------------------------------------------------------------------------------------------

    def distillation_loss(self, batch: Batch) -> Tensor:
        """[]: the mean error of restoration over the batch's users that a teacher knows, and that over its items."""
        if not self.restore_weight:
            return torch.zeros((), device=self.device)
        losses = []
        for side, ids in zip(SIDES, (batch.on_cpu.users, self.items_of(batch))):
            somebody_knows = ids if self.covered is None else self._known(ids, getattr(self.covered, side))
            there = to_device(somebody_knows, self.device)
            restored = self.auxiliary[side](look_up(self.codes(side), there))
            errors = self.errors(self.teacher[side][there], restored, self.sizes)
            losses.append(over_known(errors, self.known[side][there]).mean())
        return self.restore_weight * torch.stack(losses).sum()

    def calculate_loss(self, interaction: Interaction) -> Tensor | tuple[Tensor, Tensor]:
        """As ever, with every code made once a step."""
        with parametrize.cached():
            return super().calculate_loss(interaction)

    def base_loss(self, interaction: Interaction) -> Tensor:
        """As ever; where `denoise` asks for it, of a batch drawn by the pairs' weights."""
        return super().base_loss(self.redrawn(interaction) if len(self.pair_weights) else interaction)

    # ---- anomalies ----------------------------------------------------------------------------------------------------

    def on_epoch_start(self, epoch: int) -> None:
        """From `denoise_from` on, weighs the training pairs anew: exp(-A / median A), or their mean where nobody knows A."""
        if self.config["denoise"] and epoch >= self.config["denoise_from"] and self.functional:
            anomalies = self.pair_anomalies(self.history.pairs // self.n_items, self.history.items)
            median = anomalies.nanmedian().nan_to_num().clamp(min=torch.finfo(anomalies.dtype).tiny)
            weights = (-anomalies / median).exp().clamp(min=LEAST_WEIGHT)
            self.pair_weights = weights.where(~weights.isnan(), weights.nanmean().nan_to_num(1.0))

    @torch.no_grad()
    def pair_anomalies(self, users: Tensor, items: Tensor) -> Tensor:
        """[N] float32 on the CPU: sum over k of 1 - cos(t_u * t_i, g_k(z_u) * g_k(z_i)) of `users` [N] and `items` [N].

        K times the mean over the teachers that know both; nan where none does.
        """
        restored = {side: self.auxiliary[side](self.codes(side)) for side in SIDES}
        found = [torch.zeros(0)]
        for chunk in torch.stack([users, items]).to(self.device).split(PAIRS_AT_ONCE, 1):
            given, back = (part["user"][chunk[0]] * part["item"][chunk[1]] for part in (self.teacher, restored))
            known = self.known["user"][chunk[0]] & self.known["item"][chunk[1]]
            found.append(over_known(restoration_errors(given, back, self.sizes), known).cpu())
        return torch.cat(found)

    def redrawn(self, interaction: Interaction) -> Interaction:
        """As many interactions, drawn with replacement by their weights; what is no training pair weighs as the mean."""
        users, items = (interaction[field].cpu() for field in (self.USER_ID, self.ITEM_ID))
        slots = torch.searchsorted(self.history.pairs, users * self.n_items + items).clamp(max=len(self.history.pairs) - 1)
        weights = self.pair_weights[slots].where(self.history.contains(users, items), self.pair_weights.mean())
        return interaction[torch.multinomial(weights, len(weights), replacement=True, generator=self.generator)]

    @torch.no_grad()
    def student_saved(self) -> None:
        """Measures `anomalies`, while the decoders are those of the student's codes."""
        for side, decoders in self.auxiliary.items():
            errors = restoration_errors(self.teacher[side], decoders(self.codes(side)), self.sizes)
            self.anomalies[side] = errors.masked_fill(~self.known[side], torch.nan).cpu()

    def distillation_state(self) -> dict[str, Any]:
        """The `anomalies` of the best student so far."""
        return {**super().distillation_state(), "anomalies": dict(self.anomalies)}

    def load_distillation_state(self, state: Mapping[str, Any]) -> None:
        """Takes the `anomalies` back; raises a ValueError for some of other users, items or teachers."""
        super().load_distillation_state(state)
        found = {side: errors.cpu() for side, errors in state["anomalies"].items()}
        if found and (found.keys() != {*SIDES} or any(not self._may_be_errors(side, found[side]) for side in SIDES)):
            raise ValueError("its anomalies are not of these users, items and teachers")
        self.anomalies = found

    def _may_be_errors(self, side: str, errors: Tensor) -> bool:
        known = self.known[side].cpu()
        return errors.dtype == torch.float32 and errors.shape == known.shape and torch.equal(errors.isnan(), ~known)

    def finish_training(self) -> None:
        """Measures `anomalies` where no student was saved; then the codes become ordinary tables."""
        if not self.anomalies:
            self.student_saved()
        super().finish_training()

    def _require_tables(self) -> None:
        """Raise a UserError for a student whose vectors do not come from a table of users and one of items."""
        for side, count in zip(SIDES, (self.n_users, self.n_items)):
            table = getattr(self.backbone, f"{side}_embedding", None)
            if not isinstance(table, nn.Embedding) or table.num_embeddings != count:
                name = type(self.backbone).__name__
                raise UserError(f"student: {name} has no tables of users and items to encode; choose MF, ML or LightGCN")
