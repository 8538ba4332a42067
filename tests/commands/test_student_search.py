"""`hetcomp search-student`: what it scores, what it leaves, its budget, and what it says of bad input."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from recbole_hetcomp.cli import main
from recbole_hetcomp.commands import student_costs, student_models, student_result, student_search
from recbole_hetcomp.commands.student_costs import Budget, Cost, Costs
from recbole_hetcomp.commands.student_models import UntrainedStudents, projections, sketch_tables
from recbole_hetcomp.commands.student_score import Distances, Scale, StudentScorer
from recbole_hetcomp.commands.student_search import MODEL, rank, search_student
from recbole_hetcomp.commands.student_space import Shape, Space
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.data.fitting import fit_to_data
from recbole_hetcomp.data.history import History
from recbole_hetcomp.evaluation.efficiency import n_parameters
from recbole_hetcomp.quick_start import run_hetcomp
from recbole_hetcomp.teachers.pool import Covered

SIZES = [2, 4, 6, 8]


@pytest.fixture
def flags(settings) -> list[str]:
    return ["search-student", "--dataset=toy", *(f"--{key}={value}" for key, value in settings.items())]


@pytest.fixture
def space(tmp_path) -> str:
    """A file of 24 small shapes."""
    choices = {
        "MF": {"embedding_size": SIZES},
        "ML": {"embedding_size": SIZES},
        "HistoryEncoder": {"embedding_size": SIZES, "hidden_size": [0, 4]},
        "LightGCN": {"embedding_size": SIZES, "n_layers": [1, 2]},
    }
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump(choices), encoding="utf-8")
    return str(path)


@pytest.fixture
def few(tmp_path) -> str:
    """A file of two shapes."""
    path = tmp_path / "few.yaml"
    path.write_text("MF: {embedding_size: [2, 4]}\n", encoding="utf-8")
    return str(path)


@pytest.fixture
def make_scorer(make_config, split, trained_pool):
    """`make_scorer(**settings)`: a scorer, whose teacher is a trained LightGCN, and that teacher's model."""

    def make(init="sketch", **overrides: Any):
        config = make_config(MODEL, **{"n_classes": 30, **overrides})
        fit_to_data(config, split)
        teacher = trained_pool("LightGCN").teachers[0]
        return StudentScorer(UntrainedStudents(config, split, init), teacher.embeddings()), teacher.model

    return make


def shape(model: str, **settings: Any) -> Shape:
    return Shape(model, tuple(settings.items()))


# ---- the score ------------------------------------------------------------------------------------------------------------


def test_the_teacher_itself_has_distances_of_0_and_the_best_score(make_scorer, space) -> None:
    """With its own weights, in its own architecture; every untrained shape is below it."""
    scorer, teacher = make_scorer()
    own = scorer.students.model(shape("LightGCN", embedding_size=8, n_layers=2), 11)
    own.load_state_dict(teacher.state_dict())
    assert scorer.distances_of(own) == Distances(0.0, 0.0)
    shapes = Space.read(Path(space), scorer.students.config).shapes()
    found = [scorer.distances(one) for one in shapes[::3]]
    scale = Scale(found)
    assert all(one.relation > 0 and one.semantic > 0 for one in found)
    assert scale.score(Distances(0.0, 0.0)) > max(map(scale.score, found))


def test_a_permuted_batch_changes_nothing(make_scorer) -> None:
    scorer, _ = make_scorer()
    model = scorer.students.model(shape("LightGCN", embedding_size=4, n_layers=1), 3)
    before = scorer.distances_of(model)
    order = torch.randperm(len(scorer.users), generator=torch.Generator().manual_seed(0))
    scorer.users, scorer.positives = scorer.users[order], scorer.positives[order]
    scorer.relation = scorer.relation[order][:, order]
    after = scorer.distances_of(model)
    assert after.relation == pytest.approx(before.relation, rel=1e-5)
    assert after.semantic == pytest.approx(before.semantic, rel=1e-5)
    assert len(order) > 20


def test_random_tables_know_the_width_alone(make_scorer) -> None:
    """The limit of the search without data: for MF the widest is always nearest."""
    scorer, _ = make_scorer("random")
    found = [scorer.distances(shape("MF", embedding_size=size)).relation for size in (2, 4, 8, 16, 32, 64)]
    assert found == sorted(found, reverse=True)
    assert len(set(found)) == len(found)


def test_a_sketch_is_the_projected_training_matrix(make_scorer, split) -> None:
    history, matrix = split.history, torch.zeros(split.history.n_users, split.history.n_items, dtype=torch.float64)
    matrix[history.pairs // history.n_items, history.items] = 1
    roots = [matrix.sum(axis).clamp(min=1).sqrt() for axis in (1, 0)]
    matrix /= roots[0][:, None] * roots[1]
    for of_items in (False, True):
        rows, width = (matrix.T, history.n_users) if of_items else (matrix, history.n_items)
        gaussian = torch.randn(6, width, generator=torch.Generator().manual_seed(10 + of_items), dtype=torch.float64).T
        found = projections(history, 6, 5, of_items=of_items)
        torch.testing.assert_close(found.double(), rows @ gaussian / 6**0.5, rtol=1e-5, atol=1e-7)
    model = make_scorer("random")[0].students.model(shape("HistoryEncoder", embedding_size=6, hidden_size=4), 5)
    layers = [parameter.clone() for parameter in model.layers.parameters()]
    sketch_tables(model, history, 5)
    torch.testing.assert_close(model.input_embedding.weight.detach(), projections(history, 6, 5, of_items=True))
    assert all(torch.equal(old, new) for old, new in zip(layers, model.layers.parameters()))


@pytest.mark.parametrize("name", ["MF", "ML", "LightGCN", "HistoryEncoder"])
def test_as_many_users_as_items_do_not_confuse_their_tables(make_scorer, split, name) -> None:
    model = make_scorer("random")[0].students.model(shape(name, embedding_size=6), 5)
    pairs, n = split.history.pairs, max(split.history.n_users, split.history.n_items)
    square = History(pairs // split.history.n_items, split.history.items, n, n)
    for table in (module for module in model.modules() if isinstance(module, torch.nn.Embedding)):
        table.num_embeddings, table.weight = n, torch.nn.Parameter(torch.zeros(n, 6))
    sketch_tables(model, square, 5)
    for table, part in model.named_modules():
        if isinstance(part, torch.nn.Embedding):
            assert torch.equal(part.weight.detach(), projections(square, 6, 5, of_items="user" not in table))


def test_who_has_no_vector_is_not_compared(make_config, split, trained_pool) -> None:
    config = make_config(MODEL, n_classes=30)
    fit_to_data(config, split)
    covered = Covered(*(torch.arange(n) % 2 > 0 for n in (split.history.n_users, split.history.n_items)))
    scorer = StudentScorer(UntrainedStudents(config, split), trained_pool("BPR").teachers[0].embeddings(), covered)
    assert len(scorer.users) > 10
    assert covered.user[scorer.users].all()
    assert covered.item[scorer.items].all()


def test_lightgcns_graph_is_built_once_and_is_the_same(make_scorer, monkeypatch) -> None:
    from recbole.model.general_recommender.lightgcn import LightGCN

    built = []
    build = LightGCN.get_norm_adj_mat
    monkeypatch.setattr(LightGCN, "get_norm_adj_mat", lambda self: built.append(1) or build(self))
    scorer, _ = make_scorer()
    built.clear()
    models = [scorer.students.model(shape("LightGCN", embedding_size=size, n_layers=2), 1) for size in (4, 8, 4)]
    assert len(built) == 1
    alone = make_scorer()[0].students.model(shape("LightGCN", embedding_size=4, n_layers=2), 1)
    assert torch.equal(models[2].forward()[0], alone.forward()[0])


def test_both_distances_weigh_alike_in_the_score() -> None:
    calibration = [Distances(0.001 * value, 1.0 * other) for value, other in ((1, 5), (2, 9), (4, 1), (5, 5))]
    scale = Scale(calibration)
    assert sum(map(scale.score, calibration)) == pytest.approx(0, abs=1e-9)
    lower = [scale.score(Distances(0.003, 5.0)), scale.score(Distances(0.003 - 0.001 * 2.5**0.5, 5.0))]
    assert lower[1] - lower[0] == pytest.approx(1.0)
    assert Scale([Distances(1.0, 1.0)]).score(Distances(0.5, 1.0)) > 0  # a single shape has no deviation


# ---- the search -----------------------------------------------------------------------------------------------------------


class _ByHand(Costs):
    """Costs and a scorer that make nothing: distances and sizes by formula, `asked` counts."""

    def __init__(self) -> None:
        self.budget, self.asked = Budget(parameters=300), []

    def distances(self, one: Shape) -> Distances:
        self.asked.append(one)
        size = one.settings["embedding_size"]
        other = one.settings.get("n_layers", one.settings.get("hidden_size", 0))
        bonus = {"MF": 0.0, "ML": 0.5, "LightGCN": -1.0, "HistoryEncoder": 0.2}[one.model]
        return Distances(10 / size + bonus + 0.1 * (other - 3) ** 2, 3 / size + bonus)

    def of(self, shape: Shape) -> Cost | None:
        parameters = shape.settings["embedding_size"] * 10 + shape.settings.get("n_layers", 0)
        return Cost(parameters, None) if parameters <= 300 else None


LARGE = {
    "MF": {"embedding_size": list(range(1, 61))},
    "ML": {"embedding_size": list(range(1, 61))},
    "HistoryEncoder": {"embedding_size": list(range(1, 61)), "hidden_size": [0, 1, 2, 3, 4, 5]},
    "LightGCN": {"embedding_size": list(range(1, 61)), "n_layers": [1, 2, 3, 4, 5, 6]},
}


def test_evolution_finds_the_enumerated_optimum_and_nothing_over_budget_in_95_of_100_seeds() -> None:
    scorer = _ByHand()
    large = Space(LARGE)
    everything = [one for one in large.shapes() if scorer.of(one)]
    assert len(everything) > 400
    hits = 0
    for seed in range(100):
        scorer.asked.clear()
        ranked = rank(large, scorer, scorer, seed)
        assert all(candidate.parameters <= 300 for candidate in ranked)
        assert len(set(scorer.asked)) == len(scorer.asked) <= 332
        hits += ranked[0].shape == shape("LightGCN", embedding_size=29, n_layers=3)
    assert hits >= 95


def test_a_small_space_is_looked_through(make_scorer, space) -> None:
    scorer, _ = make_scorer()
    shapes = Space.read(Path(space), scorer.students.config)
    ranked = rank(shapes, scorer, Costs(scorer.students, Budget(parameters=10**9)), 0)
    assert sorted(map(str, (one.shape for one in ranked))) == sorted(map(str, shapes.shapes()))
    scores = [one.score for one in ranked]
    assert scores == sorted(scores, reverse=True)
    few = rank(shapes, scorer, Costs(scorer.students, Budget(parameters=600)), 0)
    assert {str(one.shape) for one in few} == {str(one.shape) for one in ranked if one.parameters <= 600}
    assert 0 < len(few) < len(ranked)
    for one in few:
        assert one.parameters == n_parameters(scorer.students.model(one.shape, 0))


def test_a_budget_of_milliseconds_is_measured(make_scorer, space, monkeypatch) -> None:
    scorer, _ = make_scorer()
    width = lambda model, *_, **__: float(model.item_embedding.embedding_dim)  # noqa: E731
    monkeypatch.setattr(student_costs, "ranking_milliseconds", width)
    shapes = Space.read(Path(space), scorer.students.config)
    ranked = rank(shapes, scorer, Costs(scorer.students, Budget(milliseconds=4.5)), 0)
    assert {one.milliseconds for one in ranked} == {2.0, 4.0}
    assert len(ranked) == shapes.size / 2


def test_mutations_change_one_choice_and_stay_in_the_space() -> None:
    large = Space(LARGE)
    known, generator = set(large.shapes()), torch.Generator().manual_seed(0)
    one, changed = shape("LightGCN", embedding_size=5, n_layers=2), set()
    for _ in range(300):
        other = large.mutated(one, generator)
        assert other in known
        if other.model == one.model:
            differing = [key for key, value in other.values if one.settings[key] != value]
            assert len(differing) == 1
            changed.update(differing)
        else:
            assert other.settings["embedding_size"] == 5
            changed.add("model")
    assert changed == {"model", "embedding_size", "n_layers"}
    single = Space({"MF": {"embedding_size": [4]}})
    assert single.mutated(single.shapes()[0], generator) == single.shapes()[0]


# ---- the command ----------------------------------------------------------------------------------------------------------


def test_it_prints_a_table_and_leaves_a_ranking_and_the_settings_of_the_best(capsys, flags, settings, space) -> None:
    """The student that any method makes of these settings has the size that the ranking says."""
    assert main([*flags, f"--space={space}", "--max_parameters=900", "--n_classes=30", "--state=INFO"]) == 0
    out, _ = capsys.readouterr()
    assert "students of toy, at most 900 parameters" in out
    folder = Path(settings["checkpoint_dir"])
    found = json.loads((folder / "student_search.json").read_text(encoding="utf-8"))
    assert found["budget"] == {"parameters": 900, "milliseconds": None}
    ranked = found["ranked"]
    assert 1 < len(ranked) < 24
    assert all(row["parameters"] <= 900 for row in ranked)
    assert [row["score"] for row in ranked] == sorted((row["score"] for row in ranked), reverse=True)
    best = yaml.safe_load((folder / "student.yaml").read_text(encoding="utf-8"))
    assert best == {"student": ranked[0]["model"], **ranked[0]["settings"]}
    shown = [line for line in out.splitlines() if line.startswith(f"| {ranked[0]['model']} (")]
    assert f"{ranked[0]['parameters']:,}" in shown[0]
    given = {key: value for key, value in settings.items() if key not in best}
    for method in ("HetCompStudent", "RRDStudent", "FitNetStudent"):
        files, taught = [str(folder / "student.yaml")], {**given, "teachers": ["BPR"], "epochs": 1}
        result = run_hetcomp(method, "toy", files, taught, arguments=(), compare=False)
        assert type(result["model"].backbone).__name__ == ranked[0]["model"]
        assert n_parameters(result["model"].backbone) == ranked[0]["parameters"]


def test_without_a_budget_a_student_may_be_as_large_as_that_of_the_settings(settings, space, make_model) -> None:
    ranked = search_student("toy", config_dict={**settings, "embedding_size": 4, "n_classes": 30}, space=space)
    allowed = n_parameters(make_model("MF", embedding_size=4))
    assert max(one.parameters for one in ranked) == allowed
    again = search_student("toy", config_dict={**settings, "embedding_size": 4, "n_classes": 30}, space=space)
    assert again == ranked


def next_of(out: str) -> list[str]:
    """The flags of the command that the last lines name."""
    (line,) = [line for line in out.splitlines() if line.startswith("next:")]
    return shlex.split(line.partition(":")[2])[1:]


QUICK = ["--n_classes=30", "--relation_users=20", "--max_parameters=900", "--state=INFO"]


@pytest.mark.parametrize("folder", ["saved", "a folder"])
def test_the_next_command_works_as_it_stands(capsys, settings, few, folder) -> None:
    """With the dataset, its path, files of settings and flags of the search, the student it trains is the best one."""
    Path("mine.yaml").write_text("teachers: [BPR]\nseed: 11\nembedding_size: 3\n", encoding="utf-8")
    given = {**settings, "checkpoint_dir": folder, "teacher_rank": 4, "without_distillation": False}
    flags = [f"--{key}={value}" for key, value in given.items() if key not in ("teachers", "seed")]
    command = ["search-student", "--dataset=toy", "--config_files=mine.yaml", f"--space={few}", *flags, *QUICK]
    assert main(command) == 0
    best = json.loads((Path(folder) / "student_search.json").read_text(encoding="utf-8"))["ranked"][0]
    (arguments,) = [next_of(capsys.readouterr().out)]
    assert not [flag for flag in arguments if flag.startswith(("--teacher_rank", "--n_classes", "--max_parameters"))]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert f"{best['parameters']:,}" in next(
        line for line in out.splitlines() if f"HetCompStudent ({best['model']})" in line
    )
    assert "unknown setting" not in out
    trained = sorted((Path(folder) / "trained").iterdir())
    assert [path.name.partition("-")[0] for path in trained] == ["BPR"]  # as mine.yaml has it, and found again


def test_a_students_file_that_is_no_searchs_own_is_never_replaced(capsys, flags, settings, few, monkeypatch) -> None:
    """Not one of the user's, nor one of a search that was changed since; an unchanged one is."""
    folder = Path(settings["checkpoint_dir"])
    command, said = [*flags, f"--space={few}", *QUICK], []
    monkeypatch.setattr(student_result.console, "say", said.append)
    for _ in range(2):
        assert main(command) == 0
    (own,) = folder.glob("student*.yaml")
    assert not [line for line in said if "stays as it is" in line]
    left = own.read_text(encoding="utf-8")
    for text in ("student: MF\n", left + "learning_rate: 0.1\n", f"# mine\n{left}", left.replace("toy", "mine"), "\xff"):
        capsys.readouterr()
        for path in folder.glob("student*.yaml"):
            path.unlink()
        own.write_text(text, encoding="latin-1")
        assert main(command) == 0
        assert own.read_text(encoding="latin-1") == text
        beside = folder / "student-2.yaml"
        assert yaml.safe_load(beside.read_text(encoding="utf-8"))["student"]
        assert said[-1] == f"{own} is not of a search, or was changed since; it stays as it is"
        assert f"--config_files={beside}" in next_of(capsys.readouterr().out)
    assert not list(folder.glob(".student*"))


def test_the_files_are_written_under_a_lock(flags, settings, few, monkeypatch) -> None:
    held_by, write = [], student_result.write
    lock = Path(settings["checkpoint_dir"]) / "locks" / "student.yaml.owner"
    monkeypatch.setattr(student_result, "write", lambda path, text: held_by.append(lock.exists()) or write(path, text))
    assert main([*flags, f"--space={few}", *QUICK]) == 0
    assert held_by == [True, True]
    assert not lock.exists()


LATE = {
    "size 0": ("MF: {embedding_size: [4, 0]}", "space: MF: embedding_size: 0"),
    "a size of no layer": (
        "ML: {embedding_size: [4]}\nMF: {embedding_size: [4, 2000000]}",
        "space: MF: embedding_size: 2000000",
    ),
    "no layers": ("LightGCN: {embedding_size: [4], n_layers: [1, -1]}", "LightGCN"),
    "no vectors": (
        "MF: {embedding_size: [4]}\nNeuMF: {mf_embedding_size: [4]}",
        "student: NeuMF has no vectors of users and items",
    ),
    "no model": ("MF: {embedding_size: [4]}\nDL: {embedding_size: [4]}", "student: DL has no vectors of users and items"),
    "budget": ("MF: {embedding_size: [4]}", "no shape of the space has at most 3 parameters"),
    "large space": (
        f"LightGCN: {{embedding_size: {[*range(4, 22)]}, n_layers: {[*range(1, 19)]}}}\n"
        "ML: {embedding_size: [4, 2000000]}",
        "space: ML: embedding_size: 2000000",
    ),
}


@pytest.mark.parametrize("case", LATE)
def test_what_makes_no_student_is_said_before_the_teachers_are_trained(capsys, flags, monkeypatch, case) -> None:
    monkeypatch.setattr(student_search, "pool_of_run", lambda *_, **__: pytest.fail("teachers are trained"))
    text, sentence = LATE[case]
    Path("space.yaml").write_text(text, encoding="utf-8")
    budget = "--max_parameters=3" if case == "budget" else "--max_parameters=900"
    assert main([*flags, "--space=space.yaml", budget]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hetcomp: ")]
    assert sentence in line
    assert len(line) <= 409


def test_a_teacher_without_scores_is_refused_before_another_is_trained(capsys, flags, settings, few) -> None:
    """Ranked lists have no vectors, nor scores whose factors could stand for them."""
    rows = [f"u{user},i{item},{rank}" for user in range(60) for rank, item in enumerate(range(user % 40, user % 40 + 30), 1)]
    Path("lists.csv").write_text("\n".join(["user,item,rank", *rows]) + "\n", encoding="utf-8")
    given = [flag for flag in flags if not flag.startswith("--teachers")]
    assert main([*given, f"--space={few}", "--teachers=['BPR','lists.csv']"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hetcomp: ")]
    assert "needs a teacher's scores, and 'lists' is lists alone" in line
    assert not (Path(settings["checkpoint_dir"]) / "trained").exists()


def test_a_teacher_that_was_still_rising_is_named_as_in_a_run(caplog, flags, few) -> None:
    given = [flag for flag in flags if not flag.startswith(("--teachers", "--teacher_config"))]
    once = "--teacher_config={'BPR': {'epochs': 1, 'eval_step': 1, 'embedding_size': 8}}"
    assert main([*given, f"--space={few}", "--teachers=['BPR']", once]) == 0
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert any(
        line.startswith("teacher BPR: its best epoch, 1, is the last validated of 1; let it train longer") for line in said
    )


def test_students_are_built_as_all_models_are(make_scorer, monkeypatch) -> None:
    """By `build_model`, whose sentence says what does not fit."""
    scorer, _ = make_scorer()
    monkeypatch.setattr(student_models, "check_settings", lambda *_: None)
    with pytest.raises(UserError, match=r"^MF cannot be made: "):
        scorer.students.model(shape("MF", embedding_size=-3), 1)


def test_what_a_student_costs_needs_no_sketch(make_scorer, space, monkeypatch) -> None:
    scorer, _ = make_scorer()
    shapes = Space.read(Path(space), scorer.students.config).shapes()
    monkeypatch.setattr(student_models, "projections", lambda *_, **__: pytest.fail("a sketch is made"))
    costs = Costs(scorer.students, Budget(parameters=10**9))
    assert all(costs.of(one) for one in shapes)


@pytest.mark.parametrize("gpus", ["0", ""])
def test_the_gpus_of_the_process_stay_visible(make_config, split, monkeypatch, gpus) -> None:
    """A student is on the CPU, and what is trained afterwards is where the settings say."""
    config = make_config(MODEL, gpu_id=gpus)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == gpus
    made = UntrainedStudents(config, split).model(shape("LightGCN", embedding_size=4, n_layers=1), 1)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == gpus
    assert made.device == torch.device("cpu")


WRONG = {
    "parameters": (["--max_parameters=many"], "max_parameters: 'many' is no whole number"),
    "no parameters": (["--max_parameters=0"], "max_parameters: 0 must be above 0"),
    "milliseconds": (["--max_milliseconds=nan"], "max_milliseconds: nan must be above 0"),
    "init": (["--init=skech"], "init: 'skech' is none of sketch, random"),
    "model": (["--model=HetCompStudent"], "leave --model out"),
    "no file": (["--space=no.yaml"], "space: there is no file 'no.yaml'"),
    "misspelt flag": (["--max_parameter=9"], "did you mean --max_parameters"),
    "misspelt setting": (["--teecher_rank=9"], "did you mean 'teacher_rank'"),
}
WRONG_SPACES = {
    "no space": ("[1, 2]", "must have lines such as"),
    "unknown model": ("MFF: {embedding_size: [4]}", "space: there is no model named 'MFF'; did you mean 'MF'"),
    "no student": ("GRU4Rec: {embedding_size: [4]}", "space: GRU4Rec is asked by sequences"),
    "unknown setting": ("MF: {embeding_size: [4]}", "MF has no setting 'embeding_size'; did you mean 'embedding_size'"),
    "not like the default": ("LightGCN: {n_layers: [1.5]}", "1.5 is no int, as its default 2 is"),
    "no list": ("MF: {embedding_size: 4}", "give a list of single values"),
    "twice": ("MF: {embedding_size: [4, 4]}", "names a value twice"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_input_is_one_sentence_before_any_work(capsys, flags, monkeypatch, case) -> None:
    monkeypatch.setattr(student_search, "make_split", lambda *_: pytest.fail("work has begun"))
    arguments, sentence = WRONG[case]
    assert main([*flags, *arguments]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hetcomp: ")]
    assert sentence in line


@pytest.mark.parametrize("case", WRONG_SPACES)
def test_a_wrong_space_is_one_sentence(make_config, tmp_path, case) -> None:
    text, sentence = WRONG_SPACES[case]
    path = tmp_path / "space.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=sentence.replace("[", r"\[")) as caught:
        Space.read(path, make_config(MODEL))
    assert len(caught.value.sentence) <= 400


def test_models_without_user_vectors_and_impossible_values_are_refused(make_scorer) -> None:
    scorer, _ = make_scorer()
    with pytest.raises(UserError, match="NeuMF has no vectors of users and items"):
        scorer.distances(shape("NeuMF", mf_embedding_size=4))
    with pytest.raises(UserError, match="space: MF: embedding_size: 'big'"):
        scorer.distances(shape("MF", embedding_size="big"))
    with pytest.raises(UserError, match="no shape of the space has at most 3 parameters"):
        rank(Space({"MF": {"embedding_size": [4]}}), scorer, Costs(scorer.students, Budget(parameters=3)), 0)


def test_the_space_that_holds_unless_another_is_named_is_of_students_with_vectors(make_scorer) -> None:
    scorer, _ = make_scorer()
    shapes = Space.read(None, scorer.students.config)
    assert shapes.size == len(shapes.shapes()) == 70
    for model in shapes.choices:
        assert scorer.distances(next(one for one in shapes.shapes() if one.model == model)).relation > 0
