"""Settings that follow the data: ratios, the batches of an evaluation, and cut-offs."""

from __future__ import annotations

from logging import getLogger
from typing import TYPE_CHECKING

from recbole_hetcomp.config import Config
from recbole_hetcomp.config.ratios import Ratio
from recbole_hetcomp.data.history import users_per_block

if TYPE_CHECKING:
    from recbole_hetcomp.data.split import Split

MOST_ROWS = 2**16  # of a batch that is a part of the interactions, lest it outgrow the memory


def fit_to_data(config: Config, split: Split) -> None:
    """Note whose ids a model will know, and fit what depends on the data: ratios, evaluation batches, cut-offs."""
    config["id_fingerprint"] = split.id_fingerprint
    set_ratios(config, split)
    fit_evaluation(config, split)


def fit_evaluation(config: Config, split: Split) -> None:
    """Fit evaluation batches and cut-offs to the data; the Configs that are derived from `config` later have them too.

    Where the user sets no `eval_batch_size` it is chosen by memory: RecBole's default is two users on 2,000 items.
    """
    if "labeled" in config["eval_args"]["mode"].values():  # rows are scored there, and nothing is ranked
        return
    n_items = split.whole.item_num - 1
    if not config.given("eval_batch_size"):
        config["eval_batch_size"] = users_per_block(split.whole.item_num, config["max_block_mb"]) * split.whole.item_num
    if max(config["topk"]) > n_items:
        name, at, k = config["valid_metric"].partition("@")
        getLogger().warning(f"topk: {config['topk']} reaches beyond the {n_items} items; cut-offs end at {n_items}")
        config["topk"] = sorted({min(cut, n_items) for cut in config["topk"]})
        config["valid_metric"] = f"{name}{at}{min(int(k), n_items)}" if at else name


def batches_of_users(config: Config) -> bool:
    """Whether a distilled model trains on batches of users; a loss of the student's own needs interactions."""
    return "user_batches" in config and bool(config["user_batches"]) and not config["base_loss_weight"]


def set_ratios(config: Config, split: Split) -> None:
    """Put a number in the place of each ratio, such as `weight_decay: 0.05 / (users + items)`.

    A whole number is at least 1 and at most MOST_ROWS. A batch of users is that part of the users which it would be of
    the interactions.

    Raises:
        UserError: the number is none that the setting may have.
    """
    users, items = split.whole.user_num - 1, split.whole.item_num - 1  # without the padding
    counts = {"users": users, "items": items, "interactions": len(split.train)}
    for key, declaration in config.declarations().items():
        ratio = Ratio.read(config[key]) if declaration.kind.ratio and key in config else None
        if ratio is None:
            continue
        of_users = key == "train_batch_size" and batches_of_users(config)
        number: float = ratio.of({**counts, "interactions": users} if of_users else counts)
        value = min(max(1, round(number)), MOST_ROWS) if declaration.kind.base == "int" else number
        declaration.check(value, f"{config[key]} of these data: ")
        config[key] = value
