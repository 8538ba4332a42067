"""Settings that follow the data: what is a ratio, what it comes to, and that a number is what trains."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recbole_hetcomp.cli import main
from recbole_hetcomp.commands.checks import check
from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.ratios import Ratio
from recbole_hetcomp.config.settings import check_settings
from recbole_hetcomp.data import fitting
from recbole_hetcomp.data.fitting import fit_to_data, set_ratios
from recbole_hetcomp.quick_start import run_hetcomp
from recbole_hetcomp.teacher_training.scheduling import build_pool

COUNTS = {"users": 60, "items": 80, "interactions": 700}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.05 / (users + items)", 0.05 / 140),
        ("interactions / 64", 700 / 64),
        ("interactions/64", 700 / 64),
        ("  users / items ", 60 / 80),
        ("(users + items) / 7", 20.0),
        ("3e-2 / users", 0.0005),
        ("2.5e+3 / interactions", 2500 / 700),
        ("3 / 4", 0.75),
        ("0 / users", 0.0),
    ],
)
def test_a_ratio_is_the_quotient_to_four_digits(text: str, value: float) -> None:
    ratio = Ratio.read(text)
    assert ratio is not None
    assert ratio.of(COUNTS) == pytest.approx(value, rel=5e-4)
    assert ratio.of(COUNTS) == float(f"{ratio.of(COUNTS):.4g}")


@pytest.mark.parametrize(
    "value",
    [
        0.05,
        64,
        None,
        True,
        ["interactions / 64"],
        "",
        "users",
        "0.05",
        "0.05 / rows",
        "-0.05 / users",
        "users / 0",
        "users / 0.0",
        "users / items / 2",
        "0.05 / users + items",
        "0.05 / (items + users)",
        "users * 2",
        "nan / users",
        "1e / users",
    ],
)
def test_anything_else_is_no_ratio(value: object) -> None:
    assert Ratio.read(value) is None


def test_data_without_any_interaction_divide_by_nothing() -> None:
    ratio = Ratio.read("3 / interactions")
    assert ratio is not None
    assert ratio.of({**COUNTS, "interactions": 0}) > 0  # and no ZeroDivisionError


FOLLOWING = {"weight_decay": "0.05 / (users + items)", "train_batch_size": "interactions / 64"}


def counts_of(split) -> tuple[int, int]:
    """Users and items of `toy` together, and interactions of the training part."""
    return 60 + 1 + 80 + 1, len(split.train)  # with the user and the item that nobody has seen


@pytest.mark.parametrize("fit", [fit_to_data, set_ratios, lambda config, split: split.loaders(config)])
def test_ratios_are_numbers_before_anything_is_built(make_config, split, fit) -> None:
    config = make_config("BPR", **FOLLOWING)
    fit(config, split)
    rows, interactions = counts_of(split)
    assert config["weight_decay"] == float(f"{0.05 / rows:.4g}")
    assert config["train_batch_size"] == round(interactions / 64) == 7
    assert type(config["train_batch_size"]) is int
    check_settings(config)


def test_numbers_stay_as_they_are(make_config, split) -> None:
    config = make_config("BPR", weight_decay=0.123456789, train_batch_size=77)
    fit_to_data(config, split)
    assert (config["weight_decay"], config["train_batch_size"]) == (0.123456789, 77)


def test_more_rows_decay_less_each_and_a_larger_part_of_an_epoch_is_a_larger_batch(make_config, split) -> None:
    """The rule of the module: the decay of all rows together, and the number of batches in an epoch, are what is given."""
    config = make_config("BPR", **FOLLOWING)
    loader = split.loaders(config).train
    rows, _ = counts_of(split)
    assert config["weight_decay"] * rows == pytest.approx(0.05, rel=1e-3)
    assert 60 <= len(loader) <= 70


@pytest.mark.parametrize("ratio", ["1 / interactions", "0 / users", "interactions / 1e6"])
def test_a_whole_number_is_at_least_one(make_config, split, ratio) -> None:
    config = make_config("BPR", train_batch_size=ratio)
    assert len(split.loaders(config).train) == len(split.train)
    assert config["train_batch_size"] == 1


def test_what_a_setting_may_not_be_it_may_not_become(make_config, split, properties: Path) -> None:
    file = properties / "model" / "MF.yaml"
    file.write_text(file.read_text() + "share: 0.5   # (float 0..1 or ratio) of something\n")
    config = make_config("MF", share="users / 10")
    check_settings(config)
    with pytest.raises(UserError, match=r"^users / 10 of these data: share: 6\.1 must be a number from 0 to 1"):
        fit_to_data(config, split)


REFUSED = [
    ("weight_decay", "0.05 / rows", r"a number of at least 0 or a ratio such as 0\.05 / \(users \+ items\)$"),
    ("weight_decay", "0.05 / users + items", "or a ratio such as"),
    ("train_batch_size", "interaction / 64", "a whole number of at least 1 or a ratio such as interactions / 64$"),
    ("train_batch_size", "interactions / 0", "or a ratio such as"),
    ("learning_rate", "1 / users", "must be a number above 0 and below 1e38$"),  # not among those that follow the data
    ("epochs", "interactions / 64", "must be a whole number of at least 1$"),
]


@pytest.mark.parametrize(("key", "value", "remedy"), REFUSED)
def test_a_misspelt_ratio_is_one_sentence_before_any_data_are_read(settings, tmp_path, key, value, remedy) -> None:
    nowhere = {**settings, "data_path": str(tmp_path / "nowhere"), key: value}
    with pytest.raises(UserError, match=remedy) as error:
        run_hetcomp("BPR", "toy", config_dict=nowhere, arguments=())
    assert str(error.value).startswith(f"{key}: '{value}' must be ")
    assert "\n" not in str(error.value)


def test_a_misspelt_ratio_of_one_teacher_is_named_with_the_teacher(make_config) -> None:
    with pytest.raises(UserError, match=r"^teacher_config of BPR: weight_decay: '1 / rows' must be a number"):
        check(make_config("HetCompStudent", teacher_config={"BPR": {"weight_decay": "1 / rows"}}))


def test_the_command_line_takes_a_ratio_as_it_is_written(capsys, settings) -> None:
    flags = [f"--{key}={value}" for key, value in settings.items() if key != "weight_decay"]
    assert main(["--model=BPR", "--dataset=toy", *flags, "--weight_decay=0.05 / rows"]) == 2
    assert "hetcomp: weight_decay: '0.05 / rows' must be" in capsys.readouterr().err
    config = Config("BPR", "toy", config_dict=settings, arguments=["--weight_decay=0.7 / items"])
    assert config["weight_decay"] == "0.7 / items"


@pytest.mark.parametrize("given", [0.25, "7 / users"])
@pytest.mark.parametrize("source", ["file", "dict", "arguments"])
def test_what_the_user_says_wins_over_the_ratio_of_a_file(settings, split, given, source) -> None:
    assert Config("RRDStudent", "toy", config_dict=settings, arguments=())["weight_decay"] != given
    Path("own.yaml").write_text(f"weight_decay: {given}\n")
    config = Config(
        "RRDStudent",
        "toy",
        ["own.yaml"] if source == "file" else None,
        {**settings, **({"weight_decay": given} if source == "dict" else {})},
        [f"--weight_decay={given}"] if source == "arguments" else (),
    )
    fit_to_data(config, split)
    assert config["weight_decay"] == (0.25 if given == 0.25 else float(f"{7 / 61:.4g}"))


def test_a_teacher_is_trained_with_numbers_and_its_record_has_them(make_config, split, tmp_path) -> None:
    following = {"all": {"epochs": 1, "embedding_size": 8, **FOLLOWING}}
    build_pool(make_config("HetCompStudent", teachers=["BPR"], teacher_config=following), split)
    rows, _ = counts_of(split)
    record = json.loads(next((tmp_path / "saved" / "trained").glob("BPR-*/record.json")).read_text())
    assert record["settings"]["weight_decay"] == float(f"{0.05 / rows:.4g}")
    assert record["settings"]["train_batch_size"] == 7


def test_a_teacher_that_is_found_again_is_built_with_numbers_too(make_config, split) -> None:
    """RecBole's DGCF divides by its train_batch_size while it is built."""
    following = {"all": {"epochs": 1, "embedding_size": 8, "n_factors": 2, **FOLLOWING}}
    config = make_config("HetCompStudent", teachers=["DGCF"], teacher_config=following)
    build_pool(config, split)
    (found,) = build_pool(config, split).teachers
    assert found.model.n_items == split.whole.item_num


def test_a_batch_of_users_is_the_same_part_of_the_users(make_config, split) -> None:
    users, interactions = split.whole.user_num - 1, len(split.train)
    by_users = {"user_batches": True, "base_loss_weight": 0.0, "train_batch_size": "interactions / 4"}
    own_loss = {**by_users, "base_loss_weight": 0.1}
    no_users = {"train_batch_size": "interactions / 4"}
    for given, whole in ((by_users, users), (own_loss, interactions), (no_users, interactions)):
        config = make_config("RRDStudent", **given)
        set_ratios(config, split)
        assert config["train_batch_size"] == round(float(f"{whole / 4:.4g}"))


def test_a_batch_that_is_a_part_of_large_data_has_a_limit(make_config, split, monkeypatch) -> None:
    monkeypatch.setattr(fitting, "MOST_ROWS", 100)
    sizes = []
    for given in ("interactions / 2", "interactions / 10", 5000):
        config = make_config("BPR", train_batch_size=given)
        set_ratios(config, split)
        sizes.append(config["train_batch_size"])
    assert sizes == [100, round(float(f"{len(split.train) / 10:.4g}")), 5000]  # a number is the user's own
