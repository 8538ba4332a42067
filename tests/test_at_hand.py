"""What a newcomer asks for first: names to import, help, lists of models and settings, RecBole's own functions."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import recbole.quick_start
import torch

import recbole_hetcomp
from recbole_hetcomp import cli, compat
from recbole_hetcomp.cli import main
from recbole_hetcomp.commands.described import shipped
from recbole_hetcomp.compat import entrances
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.usage import USAGES

PACKAGE = Path(recbole_hetcomp.__file__).parent


def test_what_people_need_is_imported_from_the_package() -> None:
    for name in recbole_hetcomp.__all__:
        assert getattr(recbole_hetcomp, name) is not None
    assert set(recbole_hetcomp.__all__) <= set(dir(recbole_hetcomp))
    with pytest.raises(AttributeError, match="nothing"):
        recbole_hetcomp.nothing  # noqa: B018


def test_the_stub_has_the_same_names_from_the_same_places() -> None:
    tree = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))
    stub = {node.names[0].asname: node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert stub == {name: f"recbole_hetcomp.{home}" for name, home in recbole_hetcomp._HOMES.items()}
    assert (PACKAGE / "py.typed").is_file()


def test_the_import_loads_no_command() -> None:
    """So what is cached of a training does not depend on what commands there are."""
    code = (
        "import sys, recbole_hetcomp; print([name for name in sys.modules if name.startswith('recbole_hetcomp.commands')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert done.stdout.strip() == "[]"


# --- help ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_each_command_has_a_help_of_its_own(capsys, name) -> None:
    assert main([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: hetcomp {USAGES[name].usage}")
    assert all(flag in out for flag, _ in USAGES[name].flags)
    assert set(USAGES) == set(cli.COMMANDS)


# --- models and settings ------------------------------------------------------------------------------------------------


def test_models_are_listed_once_each_with_what_they_are_for_and_when(capsys) -> None:
    assert main(["models"]) == 0
    out = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines() if line.startswith("| ")]
    named = [row[0] for row in rows[1:]]
    assert sorted(name for name in named if not name.startswith("RecBole")) == shipped()
    assert named[0] == "HetCompStudent"
    assert all(row[2] for row in rows)
    by_name = {row[0]: row for row in rows}
    assert "files of ranked lists" in by_name["RRDStudent"][3]
    assert "the student, unless another is named" in by_name["MF"][3]
    assert "new users" in by_name["HistoryEncoder"][3]
    assert "new users" not in by_name["MF"][3]
    assert "LightGCN" in out
    assert "SASRec" in out


@pytest.mark.parametrize("model", ["HetCompStudent", "MF", "LightGCN", "SASRec", "CompositeStudent"])
def test_settings_have_value_type_and_meaning(capsys, model) -> None:
    assert main(["settings", model, "--epochs=7"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    rows = {cells[0]: cells for cells in ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)}
    assert rows["epochs"][:4] == ["epochs", "7", "int >= 1", "given"]
    assert "given" not in rows["learning_rate"][3]
    assert all(len(cells) == 5 and cells[2] and cells[4] for cells in rows.values())


def test_a_models_own_settings_come_first(capsys) -> None:
    main(["settings", "LightGCN"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [line.split("|")[1].strip() for line in lines[1:4]] == ["embedding_size", "n_layers", "reg_weight"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["settings"], "give the name of a model"),
        (["settings", "A", "B"], "give the name of a model"),
        (["settings", "HetCompStudnt"], "did you mean 'HetCompStudent'"),
        (["models", "x"], "'x' is not used"),
        (["report"], "give the folder of a run"),
        (["report", "--checkpoint_dir=saved"], "give the folder of a run"),
        (["report", "no-such-folder"], "there is no record in"),
    ],
)
def test_what_is_missing_is_one_sentence(capsys, arguments, sentence) -> None:
    assert main(arguments) == 2
    assert sentence in capsys.readouterr().err


# --- where what goes ----------------------------------------------------------------------------------------------------


def test_the_table_goes_to_the_standard_output_and_all_else_to_the_standard_error(capsys, settings) -> None:
    given = {**settings, "state": "INFO", "epochs": 1, "without_distillation": False}
    assert main(["--model=HetCompStudent", "--dataset=toy", *(f"--{key}={value}" for key, value in given.items())]) == 0
    out, err = capsys.readouterr()
    assert out.strip().startswith("comparison on toy, test part:")
    assert "report:" in out
    assert "teacher BPR: trained" not in out
    assert "teacher BPR" in err
    assert "| role" not in err


# --- RecBole's own functions --------------------------------------------------------------------------------------------


def test_run_recbole_takes_our_models(settings) -> None:
    given = {**settings, "without_distillation": False}
    result = recbole.quick_start.run_recbole(model="HetCompStudent", dataset="toy", config_dict=given)
    assert {"best_valid_score", "valid_score_bigger", "best_valid_result", "test_result"} <= set(result)
    assert result["comparison"][-1]["model"] == "HetCompStudent (MF)"
    assert recbole.quick_start.run(model="MF", dataset="toy", config_dict=given)["name"] == "MF"


def test_run_recbole_leaves_recboles_models_to_recbole(settings, monkeypatch) -> None:
    def stock(*arguments: Any) -> str:
        return f"stock {arguments[0]}"

    assert entrances.run_recbole(stock)("BPR", "toy", config_dict=settings) == "stock BPR"
    assert entrances.run_recbole(stock)(config_dict={"model": "BPR"}) == "stock None"
    assert entrances.objective_function(lambda *_: "stock")({"model": "LightGCN"}) == "stock"


def test_they_take_our_models_again_after_the_repairs_were_taken_back(settings) -> None:
    compat.uninstall()
    compat.install()
    result = recbole.quick_start.run_recbole("MF", "toy", config_dict={**settings, "without_distillation": False})
    assert result["name"] == "MF"


def test_the_model_may_be_named_in_a_file_or_on_the_command_line(tmp_path, monkeypatch) -> None:
    (tmp_path / "a.yaml").write_text("model: HetCompStudent\n", encoding="utf-8")
    (tmp_path / "b.yaml").write_text("epochs: 3\n", encoding="utf-8")
    files = [str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")]
    assert entrances.is_ours(None, None, files)
    assert not entrances.is_ours(None, None, files[1:])
    monkeypatch.setattr(sys, "argv", ["run.py", "--model=MF"])
    assert entrances.is_ours(None)
    with pytest.raises(UserError, match="did you mean"):
        entrances.is_ours("HetCompStudnt")


def test_several_processes_are_the_commands(settings) -> None:
    with pytest.raises(UserError, match="hetcomp --nproc=2"):
        recbole.quick_start.run("HetCompStudent", "toy", config_dict=settings, nproc=2)


def test_objective_function_takes_our_models(settings) -> None:
    given = {**settings, "model": "MF", "dataset": "toy"}
    result = recbole.quick_start.objective_function(given)
    assert result["model"] == "MF"
    assert "best_valid_score" in result


def test_load_data_and_model_reads_our_checkpoints_and_recboles(settings) -> None:
    given = {**settings, "without_distillation": False, "compare": False}
    for name in ("HetCompStudent", "BPR"):
        result = recbole_hetcomp.run_hetcomp(name, "toy", config_dict=given, arguments=(), compare=False)
        config, model, dataset, train, valid, test = recbole.quick_start.load_data_and_model(result["checkpoint"])
        assert config["model"] == name
        assert dataset.user_num == 62
        served = result["model"].served_state() if name == "HetCompStudent" else result["model"].state_dict()
        own = model.served_state() if name == "HetCompStudent" else model.state_dict()
        assert all(torch.equal(own[key], served[key]) for key in served)
        assert len(train._dataset) > len(valid._dataset) > 0
        assert len(test._dataset) > 0
