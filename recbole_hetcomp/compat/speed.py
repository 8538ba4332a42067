"""The rows of the repairs that make RecBole faster, and change no result but for rounding."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.dataloader.general_dataloader import FullSortEvalDataLoader
from recbole.data.interaction import Interaction
from recbole.evaluator.collector import Collector
from recbole.model import loss
from recbole.model.general_recommender import multivae, neumf
from recbole.sampler.sampler import AbstractSampler
from recbole.trainer import trainer

from recbole_hetcomp.compat import faster
from recbole_hetcomp.compat.lightgcn_rows import propagate_by_rows, rows_are_faster
from recbole_hetcomp.compat.multivae_rows import leave_out_the_zeros
from recbole_hetcomp.compat.neumf_rows import scores_of_all_items
from recbole_hetcomp.compat.replacing import Overlay, Repair, is_stock, replaced, wrapped


def _bert4rec() -> Any:
    """Imported when it is asked for: its package holds SINE, which changes torch, and another row looks at that first."""
    return importlib.import_module("recbole.model.sequential_recommender.bert4rec").BERT4Rec


FASTER = (
    Repair(
        "row_index",
        "not reported",
        "any: each column of each batch is indexed by a Python list, a quarter of a training step",
        lambda: is_stock(Interaction.__getitem__),
        lambda: replaced(Interaction, __getitem__=faster.rows_of_interaction),
    ),
    Repair(
        "negatives",
        "not reported",
        "any: negative items are tested one by one in a Python loop, a quarter of a training step",
        lambda: is_stock(AbstractSampler.sample_by_key_ids),
        wrapped(AbstractSampler, "sample_by_key_ids", faster.sampling_by_sorted_pairs),
    ),
    Repair(
        "batches",
        "not reported",
        "any: the row numbers of a batch are gathered one by one in Python, a tenth of a training step and more",
        lambda: is_stock(AbstractDataLoader.__init__),
        wrapped(AbstractDataLoader, "__init__", faster.loading_by_arrays),
    ),
    Repair(
        "adam",
        "not reported",
        "any: on a CPU a step of Adam passes ten times over all parameters, two thirds of a training of large tables",
        lambda: trainer.optim is torch.optim,
        lambda: replaced(trainer, optim=Overlay(torch.optim, Adam=faster.adam_in_one_pass)),
    ),
    Repair(
        "full_sort_users",
        "not reported",
        "any: an evaluation makes two tensors for each user, a quarter of its time where models are small",
        lambda: is_stock(FullSortEvalDataLoader.collate_fn),
        wrapped(FullSortEvalDataLoader, "collate_fn", faster.users_of_full_sort),
    ),
    Repair(
        "top_items",
        "not reported",
        "any: an evaluation marks the positive items in a users x items matrix of integers, half of its time",
        lambda: is_stock(Collector.eval_batch_collect),
        wrapped(Collector, "eval_batch_collect", faster.collecting_top_items),
    ),
    Repair(
        "emb_loss",
        "not reported",
        "any: on a GPU each step of LightGCN and of other models with EmbLoss waits, for a 0 is made on the CPU and copied",
        lambda: is_stock(loss.EmbLoss.forward),
        lambda: replaced(loss.EmbLoss, forward=faster.norm_of_embeddings),
    ),
    Repair(
        "lightgcn_rows",
        "not reported",
        "torch with MKL: on the CPU LightGCN multiplies by a matrix in coordinates, four times slower than one in rows",
        rows_are_faster,
        propagate_by_rows,
    ),
    Repair(
        "multivae_rows",
        "not reported",
        "any: MultiVAE multiplies a user's row of the whole catalogue, nearly all zeros, by its first layer, half of a step",
        lambda: is_stock(multivae.MultiVAE.calculate_loss),
        leave_out_the_zeros,
    ),
    Repair(
        "neumf_rows",
        "not reported",
        "any: NeuMF ranks the catalogue pair by pair, through a first layer that is a sum of a user's and an item's part",
        lambda: "full_sort_predict" not in vars(neumf.NeuMF),
        lambda: replaced(neumf.NeuMF, full_sort_predict=scores_of_all_items),
    ),
    Repair(
        "bert4rec_mask",
        "not reported",
        "any: BERT4Rec puts its mask behind each sequence of a batch by itself, and on a GPU waits for each",
        lambda: is_stock(_bert4rec().reconstruct_test_data),
        lambda: replaced(_bert4rec(), reconstruct_test_data=faster.masked_at_the_end),
    ),
)
