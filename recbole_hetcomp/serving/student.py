"""A saved model, ready to recommend: in the dataset's own tokens, without any teacher."""

from __future__ import annotations

import csv
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch
from recbole.data.dataset import Dataset, SequentialDataset
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import ModelType

from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import UserError, close_matches, shown
from recbole_hetcomp.config.registry import properties_dir, properties_of
from recbole_hetcomp.data.asked import asked_by
from recbole_hetcomp.data.files import check_folder
from recbole_hetcomp.data.history import History
from recbole_hetcomp.data.sequences import Sequences
from recbole_hetcomp.data.split import Split, make_split
from recbole_hetcomp.data.views import plain
from recbole_hetcomp.teachers.ranking import full_scores, top_of_block
from recbole_hetcomp.trainer.building import build_model
from recbole_hetcomp.trainer.checkpoint import CheckpointError, load_checkpoint, load_into

TITLES = ("title", "name")  # an item's title stands in a column whose name contains one of these

Recommendations = dict[str, list[tuple[str, float]]]


def load_student(path: str | Path, *, arguments: Sequence[str] = ()) -> tuple[Config, AbstractRecommender, Dataset]:
    """A model that this package or RecBole saved.

    Args:
        path: the checkpoint
        arguments: `--key=value` settings that replace saved ones, such as `--data_path=...` on another machine

    Returns:
        (config, model in evaluation mode, the whole dataset with its id maps)

    Raises:
        UserError: no such file, or not the dataset that the model was trained on.
        CheckpointError: not a checkpoint, or one that would execute code.
    """
    config, model, split = load_with_split(path, arguments=arguments)
    return config, model, split.whole


def load_with_split(path: str | Path, *, arguments: Sequence[str] = ()) -> tuple[Config, AbstractRecommender, Split]:
    """As `load_student`, with the split that the model was trained on in place of the whole dataset."""
    if not Path(path).is_file():
        raise UserError(f"checkpoint: there is no file {str(path)!r}; give the .pth file of a finished run")
    checkpoint = load_checkpoint(path)
    settings = checkpoint.get("config")
    lacking = [name for name in ("config", "state_dict") if not isinstance(checkpoint.get(name), dict)]
    if not isinstance(settings, dict) or lacking:
        raise UserError(f"checkpoint: {str(path)!r} lacks {' and '.join(lacking)}; give the .pth file of a finished run")
    unnamed = [name for name in ("model", "dataset") if not isinstance(settings.get(name), str)]
    if unnamed:
        raise UserError(
            f"checkpoint: {str(path)!r} has a config without {' and '.join(unnamed)}; give the .pth file of a finished run"
        )
    config = Config(settings["model"], settings["dataset"], config_dict=settings, arguments=arguments)
    _check_given(config, settings, path)
    split = make_split(config)
    if settings.get("id_fingerprint", split.id_fingerprint) != split.id_fingerprint:
        raise UserError(
            f"checkpoint: dataset {config.dataset!r} has other users or items, or another order of them, than when "
            f"{str(path)!r} was trained; restore the data it was trained on"
        )
    try:
        model = build_model(config, split.train_for(config))
    except UserError as error:
        raise UserError(f"checkpoint: {str(path)!r}: {error}; or give the .pth of a finished run") from error
    try:
        load_into(model, checkpoint, path)
    except CheckpointError as error:
        raise UserError(f"checkpoint: {error}; restore the data it was trained on, or train it anew") from error
    return config, model.eval(), split


def _check_given(config: Config, saved: Mapping[str, object], path: str | Path) -> None:
    """Raise a UserError for a setting of the command line that shaped the saved model, and for a folder that is none."""
    check_folder(config.dataset, config.cmd_config_dict)
    files = [properties_of(config.model), properties_of(str(config["student"])), properties_dir() / "distillation.yaml"]
    shaping = {key for path in files if path is not None and path.is_file() for key in config.read_yaml(path) or {}}
    for key, value in config.cmd_config_dict.items():
        if key in shaping | {*config.parameters["Training"]} and value != saved.get(key):
            has = f"has {shown(saved[key])}" if key in saved else "has no such setting"
            raise UserError(
                f"{key}: {shown(value)} is a setting of the training, and {shown(Path(path))} {has}; leave {key} out, or "
                "train a model with it"
            )


@torch.no_grad()
def recommend(model: AbstractRecommender, dataset: Dataset, users: Sequence[str], k: int = 10) -> Recommendations:
    """The k best items that each user has no interaction with in the dataset.

    Args:
        model: a RecBole recommender; a sequential one is asked for what follows a user's whole sequence
        dataset: with the id maps and all known interactions
        users: tokens, plain or numpy's strings
        k: items a user; fewer where the catalogue has no more

    Returns:
        user token -> [(item token, score)], best first

    Raises:
        UserError: a user is not in the dataset, or the model scores items NaN.
    """
    if model.type == ModelType.CONTEXT:
        raise UserError(
            f"checkpoint: {type(model).__name__} predicts clicks of rows and ranks nothing; use `hetcomp predict`"
        )
    known = dataset.field2token_id[dataset.uid_field]
    users = [str(user) for user in users]
    for user in users:
        if user not in known or known[user] == 0:
            near = close_matches(user, known) or "; its users are those of the .inter file"
            raise UserError(f"users: dataset {dataset.dataset_name!r} has no user {user!r}{near}")
    ids = torch.tensor([known[user] for user in users])
    by_sequence = model.type == ModelType.SEQUENTIAL
    history = Sequences.of_whole(dataset) if by_sequence else History.of(_interactions(dataset))
    scores = full_scores(asked_by(model, history), ids).float().cpu()
    try:
        items = top_of_block(scores, history.padded(ids), min(k, dataset.item_num - 1))
    except FloatingPointError as error:
        raise UserError(f"checkpoint: {type(model).__name__} is broken, {error}; train it anew") from error
    tokens = dataset.field2id_token[dataset.iid_field]
    return {
        user: [(str(tokens[item]), float(scores[row, item])) for item in items[row].tolist() if item]
        for row, user in enumerate(users)
    }


def _interactions(dataset: Dataset) -> Dataset:
    """The dataset with its interactions one by one, those of a run with sequential models among them."""
    return plain(dataset) if isinstance(dataset, SequentialDataset) else dataset


def titles(dataset: Dataset) -> dict[str, str]:
    """Item token -> title, from the dataset's .item file; empty where there is no such file or no such column."""
    path = Path(dataset.dataset_path) / f"{dataset.dataset_name}.item"
    if not path.is_file():
        return {}
    separator, encoding = dataset.config["field_separator"], dataset.config["encoding"]
    table = pd.read_csv(
        path,
        sep=separator,
        dtype=str,
        encoding=encoding,
        quoting=csv.QUOTE_NONE,
        keep_default_na=False,
        index_col=False,
        on_bad_lines="skip",
    )
    table.columns = [column.split(":")[0] for column in table.columns]
    named = [column for column in table.columns if any(word in column.lower() for word in TITLES)]
    if not named or dataset.iid_field not in table.columns:
        return {}
    return dict(zip(table[dataset.iid_field], table[named[0]]))


def tokens_in(text: str) -> list[str]:
    """The tokens of a list such as `196,"Doe, Jane"`: one line of CSV, spaces after a comma are none of theirs.

    Raises:
        UserError: a quotation that does not end, or goes on behind its end.
    """
    try:
        return next(csv.reader([text], skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise UserError(
            f"users: {reprlib.repr(text)} cannot be read ({error}); write a token with a comma or a quotation mark as "
            '"Doe, Jane" or "the ""best"" one"'
        ) from error


def quoted(token: str) -> str:
    """The token as `tokens_in` reads it."""
    plain = token == token.strip() and not {",", '"'} & set(token)
    return token if plain else '"' + token.replace('"', '""') + '"'


def recommendation_lines(dataset: Dataset, recommendations: Recommendations) -> list[str]:
    """Lines to print: for each user the items, best first, with titles where the dataset has them.

    Tokens stand as `--users` takes them.
    """
    title_of = titles(dataset)
    lines = []
    for user, items in recommendations.items():
        lines.append(f"user {quoted(user)}")
        lines += [
            f"{place:4d}. {quoted(item):<10} {score:9.4f}  {title_of.get(item, '')}".rstrip()
            for place, (item, score) in enumerate(items, 1)
        ]
    return lines
