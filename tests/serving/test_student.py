"""A saved student, without its teachers: tokens and titles, never an item that the user knows."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from recbole_hetcomp.cli import main
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.quick_start import run_hetcomp
from recbole_hetcomp.serving.new_users import recommend_for
from recbole_hetcomp.serving.recommending import recommend
from recbole_hetcomp.serving.student import load_student
from recbole_hetcomp.serving.text import lines_of, titles
from recbole_hetcomp.trainer.checkpoint import DATA, CheckpointError, load_checkpoint, save_checkpoint


@pytest.fixture
def trained(settings):
    """(checkpoint, run's result) of a student of one teacher."""
    few = {**settings, "teachers": ["BPR"], "without_distillation": False}
    result = run_hetcomp("HetCompStudent", "toy", config_dict=few, arguments=())
    return result["checkpoint"], result


def known_items(toy: str, user: str) -> set[str]:
    rows = (Path(toy) / "toy" / "toy.inter").read_text().splitlines()[1:]
    return {row.split("\t")[1] for row in rows if row.split("\t")[0] == user}


def test_a_saved_student_recommends_without_its_teachers(trained, settings, toy):
    checkpoint, result = trained
    shutil.rmtree(Path(settings["checkpoint_dir"]) / "trained")
    config, model, dataset = load_student(checkpoint)
    assert config.model == "HetCompStudent"
    assert not model.training
    for name, value in result["model"].state_dict().items():
        assert torch.equal(model.state_dict()[name], value)
    found = recommend(model, dataset, ["u0", "u33"], 5)
    assert list(found) == ["u0", "u33"]
    for user, items in found.items():
        tokens, scores = zip(*items)
        assert len(set(tokens)) == 5
        assert all(token.startswith("i") or token == "unseen" for token in tokens)
        assert list(scores) == sorted(scores, reverse=True)
        assert not set(tokens) & known_items(toy, user)


def test_recommendations_are_the_best_of_the_models_scores(trained):
    _, model, dataset = load_student(trained[0])
    user = dataset.token2id("user_id", "u7")
    from recbole.data.interaction import Interaction

    scores = model.full_sort_predict(Interaction({"user_id": torch.tensor([user])})).detach()
    seen = dataset.inter_feat["item_id"][dataset.inter_feat["user_id"] == user]
    scores[0] = scores[seen] = -torch.inf
    expected = [dataset.id2token("item_id", item) for item in scores.topk(8).indices.tolist()]
    assert [token for token, _ in recommend(model, dataset, ["u7"], 8)["u7"]] == expected


def test_more_than_the_catalogue_gives_all_items_that_are_not_known(trained, toy):
    _, model, dataset = load_student(trained[0])
    items = recommend(model, dataset, ["u0"], 10_000)["u0"]
    assert len(items) == dataset.item_num - 1 - len(known_items(toy, "u0"))


def test_a_user_without_interactions_gets_recommendations_too(trained):
    _, model, dataset = load_student(trained[0])
    assert len(recommend(model, dataset, ["cold"], 3)["cold"]) == 3


SHAPING = {
    "embedding_size=3": "embedding_size: 3 is a setting of the training, and .* has 8; leave embedding_size out",
    "student=ML": "student: 'ML' is a setting of the training, and .* has 'MF'",
    "learning_rate=0.5": "learning_rate: 0.5 is a setting of the training",
}


@pytest.mark.parametrize("given", SHAPING)
def test_a_setting_of_the_training_is_refused_by_that_word(trained, given):
    with pytest.raises(UserError, match=SHAPING[given]) as caught:
        load_student(trained[0], arguments=[f"--{given}"])
    assert len(str(caught.value)) <= 400
    load_student(trained[0], arguments=["--embedding_size=8", "--student=MF", "--max_block_mb=1"])


def test_a_checkpoint_serves_where_the_folder_of_its_training_is_not(trained, toy, tmp_path):
    moved = shutil.move(toy, tmp_path / "elsewhere")
    _, _, dataset = load_student(trained[0], arguments=[f"--data_path={moved}"])
    assert dataset.dataset_name == "toy"


def test_a_single_string_is_no_list_of_its_letters_and_no_items_is_no_wish(trained):
    _, model, dataset = load_student(trained[0])
    with pytest.raises(UserError, match=r"^users: 'u0' is a single token; write a list, such as \['u0'\]$"):
        recommend(model, dataset, "u0", 3)
    with pytest.raises(UserError, match=r"^history: 'i1' is a single token; write a list, such as \['i1'\]$"):
        recommend_for(model, dataset, {"me": "i1"}, 3)
    with pytest.raises(UserError, match=r"^k: 0 must be a whole number of at least 1$"):
        recommend(model, dataset, ["u0"], 0)
    with pytest.raises(UserError, match=r"^k: 0 must be a whole number of at least 1$"):
        recommend_for(model, dataset, {"me": ["i1"]}, 0)


@pytest.mark.parametrize(
    ("user", "hint"),
    [
        ("u_7", "did you mean 'u7'"),
        ("[PAD]", "no user '\\[PAD\\]'"),
        ("", "no user ''; for a user who is not in its .inter file give the items with --history"),
    ],
)
def test_an_unknown_user_is_named(trained, user, hint):
    _, model, dataset = load_student(trained[0])
    with pytest.raises(UserError, match=f"dataset 'toy' has no user .*{hint}|{hint}"):
        recommend(model, dataset, ["u0", user], 3)


def test_tokens_come_back_as_plain_text_also_where_the_dataset_gave_them(trained):
    _, model, dataset = load_student(trained[0])
    found = recommend(model, dataset, dataset.field2id_token["user_id"][1:3], 3)
    assert {type(token) for user, items in found.items() for token in (user, *(item for item, _ in items))} == {str}


def test_lines_show_titles(trained):
    _, model, dataset = load_student(trained[0])
    assert titles(dataset)["i4"] == "The 4th Film"
    found = recommend(model, dataset, ["u0"], 3)
    lines = list(lines_of("u0", found["u0"], titles(dataset)))
    assert lines[0] == "user u0"
    assert len(lines) == 4
    for place, (line, (token, score)) in enumerate(zip(lines[1:], found["u0"]), 1):
        assert line.split()[:3] == [f"{place}.", token, f"{score:.4f}"]
        assert line.endswith(titles(dataset)[token])


@pytest.mark.parametrize("content", [b"", "item_id:token\tname:token_seq\ni1\tCaf\u00e9\n".encode("latin-1")])
def test_an_item_file_that_cannot_be_read_means_no_titles(trained, toy, content, caplog):
    _, _, dataset = load_student(trained[0])
    (Path(toy) / "toy" / "toy.item").write_bytes(content)
    assert titles(dataset) == {}
    assert "items stand without titles" in caplog.text


def test_no_item_file_means_no_titles(trained, toy):
    _, _, dataset = load_student(trained[0])
    (Path(toy) / "toy" / "toy.item").unlink()
    assert titles(dataset) == {}
    assert list(lines_of("u0", [("i1", 0.5)], {}))[1].split() == ["1.", "i1", "0.5000"]


def test_a_checkpoint_that_recboles_own_trainer_saved_is_served(settings, toy):
    from recbole.data import create_dataset, data_preparation
    from recbole.model.general_recommender import BPR
    from recbole.trainer import Trainer
    from recbole.utils import init_seed

    from recbole_hetcomp.config import Config

    config = Config("BPR", "toy", config_dict=settings, arguments=())
    init_seed(config["seed"], True)
    train, valid, _ = data_preparation(config, create_dataset(config))
    model = BPR(config, train._dataset)
    trainer = Trainer(config, model)
    trainer.fit(train, valid, verbose=False)
    served_config, served, dataset = load_student(trainer.saved_model_file)
    assert type(served) is BPR
    assert served_config["embedding_size"] == 8
    found = recommend(served, dataset, ["u0"], 5)["u0"]
    assert len(found) == 5
    assert not {token for token, _ in found} & known_items(toy, "u0")


def test_the_data_may_have_moved(trained, toy, tmp_path):
    shutil.move(toy, tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"dataset 'toy': there is no file .*--data_path"):
        load_student(trained[0], arguments=[f"--data_path={toy}"])
    _, _, dataset = load_student(trained[0], arguments=[f"--data_path={tmp_path / 'elsewhere'}"])
    assert dataset.user_num == 62


def test_other_data_are_refused(trained, toy):
    """Of a checkpoint without the data in it, as RecBole's are, and as this package's were."""
    state = load_checkpoint(trained[0])
    del state[DATA]
    save_checkpoint(trained[0], state)
    load_student(trained[0])
    for name, row in (("inter", "new_user\ti1\t5\t1\n"), ("user", "new_user\n")):
        path = Path(toy) / "toy" / f"toy.{name}"
        path.write_text(path.read_text() + row)
    with pytest.raises(UserError, match="dataset 'toy' has other users or items") as caught:
        load_student(trained[0])
    assert "\n" not in str(caught.value)


def test_a_missing_or_damaged_checkpoint_is_named(trained, tmp_path):
    with pytest.raises(UserError, match=r"checkpoint: there is no file .*no\.pth"):
        load_student(tmp_path / "no.pth")
    content = Path(trained[0]).read_bytes()
    (tmp_path / "half.pth").write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=r"half\.pth"):
        load_student(tmp_path / "half.pth")


@pytest.mark.parametrize("lost", ["config", "state_dict"])
def test_a_file_that_is_no_models_checkpoint_is_named(trained, tmp_path, lost):
    state = torch.load(trained[0], weights_only=True)
    del state[lost]
    torch.save(state, tmp_path / "part.pth")
    with pytest.raises((UserError, CheckpointError), match=r"part\.pth"):
        load_student(tmp_path / "part.pth")


def _nan(state):
    state["state_dict"]["backbone.user_embedding.weight"][3, 0] = torch.nan


@pytest.mark.parametrize(
    "change",
    [
        _nan,
        lambda state: state.update(config="x"),
        lambda state: state.update(config={}),
        lambda state: state["config"].update(model=3),
        lambda state: state.update(state_dict="x"),
        lambda state: state.update(state_dict={"a": "b"}),
        lambda state: state["state_dict"].popitem(),
        lambda state: state["state_dict"].update(x=torch.zeros(2)),
        lambda state: state["state_dict"].update({name: value[:-1] for name, value in state["state_dict"].items()}),
        lambda state: state["state_dict"].update({name: value.double() for name, value in state["state_dict"].items()}),
        lambda state: state.update(other_parameter={"full_sort_predict": 1}),
        lambda state: state.update(other_parameter=[1]),
    ],
)
def test_a_checkpoint_with_something_else_inside_is_a_sentence(trained, change, capsys):
    state = load_checkpoint(trained[0])
    change(state)
    save_checkpoint(trained[0], state)
    assert main(["recommend", f"--checkpoint={trained[0]}", "--users=u0"]) == 2
    sentence = capsys.readouterr().err
    assert sentence.startswith("hetcomp: ")
    assert Path(trained[0]).name in sentence
    assert sentence.count("\n") == 1


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\3\4", b"PK\5\6" + bytes(18), b"\x80\x02}.", b"x" * 100])
def test_what_is_no_checkpoint_at_all_is_a_sentence(tmp_path, content, capsys):
    (tmp_path / "a.pth").write_bytes(content)
    assert main(["recommend", f"--checkpoint={tmp_path / 'a.pth'}", "--users=u0"]) == 2
    assert capsys.readouterr().err.startswith(f"hetcomp: {tmp_path / 'a.pth'} ")
