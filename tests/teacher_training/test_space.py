"""What a search tries: what the files may say, what each model's says, and what is left of it where the user has chosen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from recbole_hetcomp.config import Config
from recbole_hetcomp.config.derived import derive
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.family import is_sequential_model
from recbole_hetcomp.config.ratios import Ratio
from recbole_hetcomp.config.registry import get_model, predicts_clicks, properties_dir
from recbole_hetcomp.config.settings import check_settings
from recbole_hetcomp.teacher_training.alone import alone_config
from recbole_hetcomp.teacher_training.configs import teacher_config
from recbole_hetcomp.teacher_training.space import Choice, Range, space_of

SPACES = sorted(properties_dir().glob("space/*.yaml"))
TEACHERS = ["BPR", "CML", "NeuMF", "LightGCN", "MultiVAE", "ItemVAE", "SASRec", "GRU4Rec", "NARM", "LightSANs", "FPMC"]
STUDENTS = ["MF", "ML", "DL", "HistoryEncoder"]


class Drawn:
    """A trial that draws an end of every range and one of the choices, and keeps what it was asked."""

    def __init__(self, share: float) -> None:
        self.share, self.asked = share, {}

    def suggest_float(self, key: str, low: float, high: float, log: bool) -> float:
        assert log
        self.asked[key] = (low, high)
        return low * (high / low) ** self.share

    def suggest_categorical(self, key: str, values: list[str]) -> str:
        assert all(isinstance(value, str) for value in values)
        self.asked[key] = tuple(values)
        return values[round(self.share * (len(values) - 1))]


@pytest.fixture
def run() -> Config:
    """A run of which each model that ranks may be a teacher, and nothing is said about any of them."""
    return Config("HetCompStudent", "toy", config_dict={"data_path": "."}, arguments=())


@pytest.fixture
def run_of() -> Callable[[str], Config]:
    """`run_of(model)`: a run of which the model may be a teacher, and nothing is said about it."""

    def of(model: str) -> Config:
        method = "KDDAGFMStudent" if predicts_clicks(get_model(model)) else "HetCompStudent"
        named = {"teachers": [model, "BPR"]} if is_sequential_model(model) else {}
        return Config(method, "toy", config_dict={"data_path": ".", **named}, arguments=())

    return of


@pytest.fixture
def write(properties: Path):
    """`write("MF", text)`: the file that says what a search tries for MF."""

    def write(model: str, text: str) -> None:
        (properties / "space" / f"{model}.yaml").write_text(text, encoding="utf-8")

    return write


def test_every_default_teacher_and_student_has_a_space() -> None:
    assert {*TEACHERS, *STUDENTS} <= {path.stem for path in SPACES}


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_what_is_tried_are_settings_of_the_model_and_values_that_they_may_have(run_of, path: Path) -> None:
    config = teacher_config(run_of(path.stem), path.stem)
    space = space_of(config)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert list(space) == list(content)
    assert config.unknown_keys(space) == {}
    for share in (0.0, 0.5, 1.0):
        tried = {key: part.suggest(Drawn(share), key) for key, part in space.items()}
        for key, value in tried.items():
            config[key] = value
        check_settings(config)


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_what_is_tried_has_more_than_one_value_and_is_not_what_makes_a_model_larger(run_of, path: Path) -> None:
    """Else the student that is compared with another one would be of another size."""
    for key, part in space_of(teacher_config(run_of(path.stem), path.stem)).items():
        assert isinstance(part, Range) or len({str(value) for value in part.values}) == len(part.values) > 1
        assert not key.endswith(("_size", "_dimension")) or key == "train_batch_size"


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_what_holds_without_a_search_lies_within_what_is_tried(run_of, path: Path) -> None:
    """The estimator is to know of the first trial all that it has."""
    config = teacher_config(run_of(path.stem), path.stem)
    for key, part in space_of(config).items():
        assert part.number(config[key]) is not None, f"{key}: {config[key]!r} is not in {part}"


def test_a_range_of_numbers_is_drawn_with_three_digits_on_a_logarithmic_scale() -> None:
    part, middle = Range.read(0.001, 0.1), Drawn(0.5)
    assert part.suggest(middle, "x") == 0.01
    assert middle.asked == {"x": (0.001, 0.1)}
    assert Range.read(0.0012345, 1).suggest(Drawn(0.0), "x") == 0.00123


def test_a_range_of_ratios_is_drawn_as_a_ratio() -> None:
    part = Range.read("0.01 / (users + items)", "0.25 / (users + items)")
    assert (part.low, part.high) == (0.01, 0.25)
    assert part.suggest(Drawn(0.5), "x") == "0.05 / (users + items)"
    for share in (0, 0.3, 1):
        text = part.suggest(Drawn(share), "x")
        assert Ratio.read(text) == Ratio(f"{part.number(text):g}", "(users + items)")


@pytest.mark.parametrize("low", [1e-7, 3e-5, 0.4])
def test_very_small_numbers_of_a_ratio_are_still_ratios(low: float) -> None:
    text = Range.read(f"{low:g} / users", f"{2 * low:g} / users").suggest(Drawn(0.0), "x")
    ratio = Ratio.read(text)
    assert ratio is not None
    assert float(ratio.above) == pytest.approx(low)


def test_a_choice_is_known_by_its_text_and_gives_the_value_itself() -> None:
    part, first = Choice.read([[64], [64, 32], "interactions / 64", 3]), Drawn(0.0)
    assert part.suggest(first, "x") == [64]
    assert first.asked == {"x": ("[64]", "[64, 32]", "interactions / 64", "3")}
    assert part.suggest(Drawn(1.0), "x") == 3


@pytest.mark.parametrize(
    ("part", "inside", "outside"),
    [
        (Range.read(0.001, 0.1), [0.001, 0.05, 0.1], [0.0009, 0.2, "0.05 / users", None, "x", [0.05], float("nan")]),
        (Range.read(1, 10), [1, 10, 3.5], [0, 11, "5 / users"]),
        (
            Range.read("0.1 / users", "10 / users"),
            ["0.1 / users", "1/users", "10 / users"],
            [1, 1.0, "1 / items", "11 / users", "interactions / users", "0.05 / (users + items)", None],
        ),
        (Choice.read([1, "2 / users", [3]]), [1, "2 / users", [3]], [2, "1", "3", None, [4], "[3]"]),
    ],
)
def test_a_value_inside_is_known_to_the_search_and_one_outside_is_not(part: Any, inside: list, outside: list) -> None:
    assert None not in [part.number(value) for value in inside]
    assert [part.number(value) for value in outside] == [None] * len(outside)


BAD = [
    ("learning_rate: 0.1", "learning_rate: 0.1 is neither {low: 0.001, high: 0.02} nor a list"),
    ("learning_rate: fast", "learning_rate: 'fast' is neither"),
    ("learning_rate:", "learning_rate: None is neither"),
    ("learning_rate: {low: 0.1}", "is neither"),
    ("learning_rate: {low: 0.1, high: 0.1}", "0.1 to 0.1 is no range of positive numbers"),
    ("learning_rate: {low: 0.2, high: 0.1}", "0.2 to 0.1 is no range of positive numbers"),
    ("learning_rate: {low: 0, high: 0.1}", "0 to 0.1 is no range of positive numbers"),
    ("learning_rate: {low: -1, high: 0.1}", "-1 to 0.1 is no range of positive numbers"),
    ("learning_rate: {low: .nan, high: 0.1}", "is no range of positive numbers"),
    ("learning_rate: {low: 0.1, high: .inf}", "is no range of positive numbers"),
    ("learning_rate: {low: small, high: 0.1}", "is neither"),
    ("weight_decay: {low: 0.1 / users, high: 0.2 / items}", "is no range of positive numbers"),
    ("weight_decay: {low: 0.1 / users, high: 0.2}", "is no range of positive numbers"),
    ("weight_decay: {low: interactions / 9, high: interactions / 8}", "is neither"),
    ("n_layers: []", "n_layers: [] is neither {low: 0.001, high: 0.02} nor a list (there is nothing to choose from)"),
    (
        "learning_rte: {low: 0.1, high: 0.2}",
        "MF has no setting 'learning_rte'; take the line out; did you mean 'learning_rate'",
    ),
    ("[learning_rate]", "['learning_rate'] is no space; write lines such as learning_rate: {low: 0.001, high: 0.02}"),
]


@pytest.mark.parametrize(("text", "sentence"), BAD)
def test_a_file_that_is_no_space_is_one_sentence(make_config, write, text: str, sentence: str) -> None:
    write("MF", text + "\n")
    with pytest.raises(UserError) as error:
        space_of(make_config("MF"))
    assert str(error.value).startswith("MF.yaml: ")
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "# nothing is tried\n"])
def test_an_empty_file_is_a_model_without_a_search(make_config, write, text: str) -> None:
    write("MF", text)
    assert space_of(make_config("MF")) == {}


def test_a_model_without_a_file_has_nothing_to_try(make_config) -> None:
    assert space_of(make_config("EASE")) == {}


@pytest.mark.parametrize("source", ["file", "dict", "arguments", "model"])
def test_what_the_user_has_chosen_is_not_tried(make_config, settings, source) -> None:
    free = {key: value for key, value in settings.items() if key != "train_batch_size"}
    whole = list(space_of(Config("BPR", "toy", config_dict=free, arguments=())))
    assert whole == ["learning_rate", "weight_decay", "train_batch_size"]
    Path("own.yaml").write_text("learning_rate: 0.01\n")
    given = {**free, **({"learning_rate": 0.01} if source in ("dict", "model") else {})}
    config = Config(
        "BPR",
        "toy",
        ["own.yaml"] if source == "file" else None,
        given,
        ["--learning_rate=0.01"] if source == "arguments" else (),
    )
    if source == "model":  # of another model in the same run
        config = derive(config, "BPR", {"learning_rate": 0.01}, seed=1)
    assert list(space_of(config)) == whole[1:]


def test_what_is_said_of_one_teacher_leaves_its_space_alone(make_config, settings) -> None:
    run = make_config("HetCompStudent", teacher_config={"all": {"epochs": 2}, "BPR": {"learning_rate": 0.1}})
    assert "learning_rate" not in space_of(teacher_config(run, "BPR"))
    assert "learning_rate" in space_of(teacher_config(run, "LightGCN"))
    everybody = make_config("HetCompStudent", teacher_config={"all": {"learning_rate": 0.1}})
    assert "learning_rate" not in space_of(teacher_config(everybody, "LightGCN"))


def test_a_setting_that_only_a_yaml_file_has_is_tried(make_config, run) -> None:
    assert "weight_decay" in space_of(teacher_config(run, "BPR"))
    assert not run.given("weight_decay")


@pytest.mark.parametrize("student", [*STUDENTS, "LightGCN", "CML", "MultiVAE"])
def test_the_student_alone_is_searched_like_a_teacher(student) -> None:
    run = Config("RRDStudent", "toy", config_dict={"data_path": ".", "student": student}, arguments=())
    shape = {"n_layers"} if student == "LightGCN" else set()  # with other layers it would not be the same student
    assert set(space_of(alone_config(run))) == set(space_of(teacher_config(run, student))) - shape
    assert space_of(alone_config(run))


@pytest.mark.parametrize("student", ["GRU4Rec", "SASRec", "NARM", "LightSANs", "FPMC"])
def test_so_is_a_sequential_one(student) -> None:
    given = {"data_path": ".", "student": student, "teachers": ["BPR"]}
    alone = alone_config(Config("RRDStudent", "toy", config_dict=given, arguments=()))
    assert {"learning_rate", "train_batch_size"} < set(space_of(alone))


def test_what_the_run_says_of_the_student_is_not_searched() -> None:
    given = {"data_path": ".", "student": "ML", "margin": 0.7}
    run = Config("RRDStudent", "toy", config_dict=given, arguments=())
    assert "margin" not in space_of(alone_config(run))
    assert alone_config(run)["margin"] == 0.7


class WholeNumbers(Drawn):
    def suggest_int(self, key: str, low: int, high: int, log: bool) -> int:
        assert log
        self.asked[key] = (low, high)
        return high


def test_a_whole_number_is_searched_among_whole_numbers(run, write) -> None:
    write("LightGCN", "n_layers: {low: 1, high: 4}\n")
    part = space_of(teacher_config(run, "LightGCN"))["n_layers"]
    assert part.suggest(WholeNumbers(1.0), "n_layers") == 4
    assert isinstance(part.suggest(WholeNumbers(1.0), "n_layers"), int)


@pytest.mark.parametrize(
    "line", ["dropout_prob: [0.2, 1.5]", "learning_rate: {low: 0.1, high: 0.2 / users}", "dropout_prob: {low: 0.5, high: 2}"]
)
def test_values_that_a_setting_may_not_have_are_one_sentence(run, write, line: str) -> None:
    write("MultiVAE", line + "\n")
    with pytest.raises(UserError, match=r"^MultiVAE\.yaml: "):
        space_of(teacher_config(run, "MultiVAE"))


def test_the_student_alone_keeps_the_networks_layers_and_sizes_and_nothing_else(write, run_of) -> None:
    write("GRU4Rec", "num_layers: [1, 2]\ndropout_prob: [0.1, 0.3]\nlearning_rate: {low: 0.001, high: 0.1}\n")
    given = {"data_path": ".", "student": "GRU4Rec", "teachers": ["BPR"]}
    alone = alone_config(Config("RRDStudent", "toy", config_dict=given, arguments=()))
    assert list(space_of(alone)) == ["dropout_prob", "learning_rate"]
    assert list(space_of(teacher_config(run_of("GRU4Rec"), "GRU4Rec"))) == ["num_layers", "dropout_prob", "learning_rate"]
    clicks = {"data_path": ".", "student": "DCNV2"}
    assert "reg_weight" in space_of(alone_config(Config("KDDAGFMStudent", "toy", config_dict=clicks, arguments=())))


def test_a_setting_that_is_near_no_known_one_is_tried(make_config, write) -> None:
    """RecBole's FEARec reads `contrast` and no yaml file has it."""
    write("MF", "quux: [1, 2]\n")
    assert list(space_of(make_config("MF"))) == ["quux"]
