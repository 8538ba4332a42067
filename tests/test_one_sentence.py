"""What a person can mend is one sentence of at most 400 characters with exit code 2, before anything is trained."""

from __future__ import annotations

import codecs
import os
import resource
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from recbole_hetcomp.cli import main
from recbole_hetcomp.commands import pipeline
from recbole_hetcomp.commands.checks import check
from recbole_hetcomp.config import Config
from recbole_hetcomp.config.errors import LONGEST, UserError, shown
from recbole_hetcomp.data.split import make_split

ROOT = Path(__file__).parents[1]
HEADER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
ALL_COLUMNS = "--load_col={'inter':['user_id','item_id','rating','timestamp']}"


def rows(n_users: int = 12, n_items: int = 15) -> str:
    pairs = [(user, (user * 7 + 2 * k) % n_items) for user in range(n_users) for k in range(7)]
    return "".join(f"u{user}\ti{item}\t1\t{100 + item}\n" for user, item in pairs)


def every(n_items: int, *users: str) -> str:
    return "".join(f"{user}\ti{item}\t1\t2\n" for user in users for item in range(n_items))


@pytest.fixture
def flags(settings: dict[str, Any]) -> dict[str, Any]:
    return {**settings, "model": "BPR", "dataset": "toy", "epochs": 1}


@pytest.fixture
def sentence_of(flags, capsys, monkeypatch) -> Callable[..., str]:
    """`sentence_of(*arguments, without=())`: the sentence in which they are refused; nothing is trained before."""
    monkeypatch.setattr(pipeline, "run_on_split", lambda *_, **__: pytest.fail("work has begun"))

    def refuse(*arguments: str, without: tuple[str, ...] = ()) -> str:
        names = {*without, *(argument[2:].partition("=")[0] for argument in arguments)}
        capsys.readouterr()
        assert main([*(f"--{key}={value}" for key, value in flags.items() if key not in names), *arguments]) == 2
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        (sentence,) = [line for line in err.splitlines() if line.startswith("hetcomp: ")]
        assert err.rstrip().endswith(sentence)
        assert len(sentence) <= len("hetcomp: ") + LONGEST
        return sentence

    return refuse


FLAGS = [
    (["--dataset=a/toy"], "dataset: 'a/toy' is no name but a path; write --dataset=NAME --data_path=FOLDER"),
    (["--dataset=../toy"], "is no name but a path"),
    (["--dataset=.."], "is no name but a path"),
    (["--dataset=a\0b"], "is no name but a path"),
    (["--checkpoint_dir="], "checkpoint_dir: '' must be a name, such as saved"),
    (["--checkpoint_dir=a\0b"], "holds a character of no text"),
    (["--data_path=3"], "data_path: 3 is no folder"),
    *[([f"--seed={value}"], "must be a whole number from 0 to 4294967295") for value in ("-1", 2**32, 1.5, "ten", "True")],
    *[([f"--split_seed={value}"], "must be a whole number from 0 to 4294967295 or nothing") for value in ("-1", 2**32, 1.5)],
    *[
        ([f"--learning_rate={value}"], f"learning_rate: {read} must be a number above 0 and below 1e38")
        for value, read in [
            ("1e38", "1e+38"),
            ("0", "0"),
            ("-0.1", "-0.1"),
            ("nan", "'nan'"),
            ("1e400", "inf"),
            ("x", "'x'"),
        ]
    ],
    (["--use_gpu=yes"], "use_gpu: 'yes' must be True or False"),
    (["--show_progress=maybe"], "show_progress: 'maybe' must be True or False"),
    (["--reproducibility=off"], "reproducibility: 'off' must be True or False"),
    (["--shuffle=1"], "shuffle: 1 must be True or False"),
    (["--epochs=1e3"], "epochs: 1000.0 must be a whole number of at least 1"),
    (["--epochs="], "epochs: '' must be a whole number of at least 1"),
    (["--epochs=" + "9" * 5000], "must be a whole number of at least 1"),
    (["--embedding_size=8.5"], "embedding_size: 8.5 must be a whole number of at least 1"),
    (["--epoch=3"], "did you mean 'epochs'"),
    (["--lerning_rate=1"], "did you mean 'learning_rate'"),
    (["--log_wandb=True"], "log_wandb: True needs wandb, which is not installed; run `pip install wandb`"),
    (["--metrics=['AUC']", "--valid_metric=AUC"], "metrics: AUC needs labelled or drawn items, and eval_args ranks all"),
    (["--metrics=['MAE']", "--valid_metric=MAE"], "metrics: MAE needs labelled or drawn items"),
    (["--model=HetCompStudent", "--metrics=['AUC']", "--valid_metric=AUC"], "metrics: AUC needs labelled or drawn items"),
    (["--metrics=['AUC','Recall']", "--valid_metric=AUC"], "metrics: AUC is of scores, Recall of ranked lists"),
    (["--metrics=['Recal']"], "metrics: There is no metric named 'Recal'; did you mean 'recall'?"),
    (["--eval_args={'mode':'labeled'}"], "metrics: Recall ranks items, which mode: labeled of eval_args does not"),
    (["--eval_args={'mode':'labeled'}", "--metrics=AUC", "--valid_metric=AUC"], "'labeled' needs the column 'label'"),
    (["--topk=0"], "topk: [0] must be a list of whole numbers of at least 1"),
    (["--valid_metric=Recall@7"], "valid_metric: 'Recall@7' is not measured by metrics and topk; choose one of Recall@5,"),
    (["--valid_metric=Recall@"], "valid_metric: 'Recall@' is not measured"),
    (["--gpu_id=[1]"], "gpu_id: [1] is no number of a GPU"),
    (["--local_rank=0"], "local_rank: 0 is no setting of a run; write --nproc=2"),
    (["--state=LOUD"], "state: 'LOUD' is none of CRITICAL, ERROR, WARNING, INFO, DEBUG"),
    (
        ["--dataset=ml-100k", "--data_path=nowhere"],
        "data_path: there is no folder 'nowhere'; leave data_path out, as ml-100k",
    ),
    (["--dataset=toi"], "did you mean 'toy'?"),
    (["--dataset=ml100k"], "did you mean 'ml-100k'?"),
    (
        ["--eval_args={'spilt':{'RS':[8,1,1]}}"],
        "eval_args: it has no key 'spilt'; its keys are split, group_by, order, mode; did",
    ),
    (
        ["--model=HetCompStudent", "--teachers=['lists/mine.txt']"],
        "a table of ranked lists is a .csv, .tsv, .inter or .parquet",
    ),
    (["--model=HetCompStudent", "--teachers=['mine.CSV']"], "teachers: 'mine.CSV' is neither a model nor a file of a form"),
    (["--model=HetCompStudent", "--teachers=['data/toy/toi.inter']"], "did you mean 'data/toy/toy.inter'"),
    (["--learner=adm"], "learner: 'adm' is none of adam, sgd"),
    (["--transform=x"], "transform: 'x' is none of"),
    (["--user_inter_num_interval=5"], "user_inter_num_interval: 5 is no interval; write --user_inter_num_interval="),
    (["--item_inter_num_interval=[5,"], "item_inter_num_interval: '[5,' is no interval"),
    (["--val_interval={'rating':'[3,x)'}", ALL_COLUMNS], "val_interval: rating: '[3,x)' is no interval"),
    (["--clip_grad_norm={'norm':3}"], "clip_grad_norm: it has no key 'norm'; its keys are max_norm"),
    (["--clip_grad_norm={'max_norm':'x'}"], "clip_grad_norm: max_norm: 'x' must be a number above 0"),
    (["--train_neg_sample_args={'sample_num':0}"], "train_neg_sample_args: sample_num: 0 must be a whole number from 1"),
    (["--train_neg_sample_args={'sample_num':1000000000}"], "sample_num: 1000000000 must be a whole number from 1"),
    (["--train_neg_sample_args={'distribution':'x'}"], "distribution: 'x' is none of uniform, popularity"),
    (["--train_neg_sample_args={'dynamic':True}"], "dynamic: True chooses among candidates; write candidate_num: 5"),
    (["--gpu_id=0\0"], "holds a character of no text; take it out"),
    (["--epochs=\ud800"], "epochs: "),
    (["--model=BPR", "--train_neg_sample_args=~"], "train_neg_sample_args: BPR compares items with negative ones, and none"),
    (["--model=NeuMF", "--train_neg_sample_args=~"], "train_neg_sample_args: NeuMF learns from labels, no negative items"),
    (
        ["--model=FM", "--valid_metric=AUC"],
        "eval_args: mode: 'labeled' needs the column 'label' (LABEL_FIELD), or a threshold such as {'rating'",
    ),
    (
        ["--model=HetCompStudent", "--teachers=['BPR']", "--teacher_config={'BPR':{'train_neg_sample_args':None}}"],
        "teacher_config of BPR: train_neg_sample_args: BPR compares items with negative ones",
    ),
    (
        ["--model=HetCompStudent", "--without_distillation_config={'train_neg_sample_args':None}"],
        "without_distillation_config: train_neg_sample_args: MF compares items with negative ones",
    ),
    (["--embedding_size=1000000000000"], "embedding_size: 1000000000000 must be a whole number from 1 to 1000000, such as"),
    (["--model=NeuMF", "--mlp_hidden_size=[-1]"], "mlp_hidden_size: [-1] must be a list of whole numbers from 1 to 1000000"),
    (["--model=DMF", "--user_embedding_size=x"], "user_embedding_size: 'x' must be a whole number from 1 to 1000000"),
    (
        ["--model=HetCompStudent", "--teachers=['NeuMF']", "--teacher_config={'NeuMF':{'mlp_hidden_size':[8,0]}}"],
        "teacher_config of NeuMF: mlp_hidden_size: [8, 0] must be a list of whole numbers from 1",
    ),
    (["--=3"], "command line: '--=3' is not of the form --key=value"),
    (["--train_neg_sample_args=3"], "train_neg_sample_args: 3 must be a dict"),
    (["--eval_args={'mode':'unisex'}"], "eval_args: mode: 'unisex' is none of full, labeled, uni100"),
    (["--eval_args={'mode':3}"], "eval_args: mode: 3 is none of"),
    (
        ["--eval_args={'order':'TO'}"],
        "eval_args: order: 'TO' needs the column 'timestamp' (TIME_FIELD), which is not loaded",
    ),
    (["--eval_args={'order':'XX'}"], "eval_args: order: 'XX' is none of RO, TO"),
    (["--eval_args={'splt':{'RS':[1,1,1]}}"], "eval_args: it has no key 'splt'; its keys are split"),
    (["--eval_args={'split':{'RS':[1,'b',1]}}"], "split: RS: [1, 'b', 1] must be three numbers"),
    (["--eval_args={'split':{'RS':[1,1]}}"], "split: RS: [1, 1] must be three numbers"),
]


@pytest.mark.parametrize(("arguments", "sentence"), FLAGS, ids=lambda value: str(value)[:50])
def test_a_value_that_a_setting_cannot_have(sentence_of, arguments, sentence) -> None:
    assert sentence in sentence_of(*arguments)


NESTED = "[" * 200_001
BOMB = "a0: &a0 [x, x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))
MERGE_BOMB = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 9))
YAML = {
    "encoding: 3": "encoding: 3 must be a name or nothing",
    "encoding: rot13": "encoding: 'rot13' is no encoding of text; write --encoding=utf-8",
    "benchmark_filename: 3": "benchmark_filename: 3 is no list of names",
    "benchmark_filename: [a, b]": "benchmark_filename: ['a', 'b'] has 2 parts; name three",
    'topk: "ten"': "topk: 'ten' must be a list of whole numbers of at least 1, such as [10, 50]",
    "topk: 2020-01-01": "topk: '2020-01-01' must be a list of whole numbers",
    "topk: true": "topk: True must be a list of whole numbers",
    "metrics: 5": "metrics: 5 is no list of names; write --metrics=",
    "epochs: 2020-01-01": "epochs: '2020-01-01' must be a whole number",
    "epochs: [1, 2]": "epochs: [1, 2] must be a whole number",
    "learning_rate: .nan": "learning_rate: nan must be a number above 0",
    "seed: [1]": "seed: [1] must be a whole number",
    "state: 3": "state: 3 is none of CRITICAL, ERROR, WARNING, INFO, DEBUG",
    "load_col: 3": "load_col: 3 is no dict of lists",
    "load_col: {inter: 3}": "load_col: {'inter': 3} is no dict of lists",
    "dataset: 3": "dataset: 3 is no name; write --dataset=ml-100k",
    "dataset: 2020-01-01": "dataset '2020-01-01': there is no file",
    "model: [BPR]": "model: ['BPR'] is no name",
    "threshold: 3": "threshold: 3 must be a dict",
    "additional_feat_suffix: 3": "additional_feat_suffix: 3 is no list of names",
    "normalize_all: 3": "normalize_all: 3 must be True or False or nothing",
    BOMB: "line 5 of 'c.yaml' stands for over 20,000 values; write fewer, or fewer aliases of aliases",
    MERGE_BOMB: "stands for over 20,000 values",
    "topk: &a [1, *a]": "line 1 of 'c.yaml' is an alias of what it stands in; write the value out",
    "x: &a {b: *a}": "is an alias of what it stands in",
    NESTED: "config_files: 'c.yaml' is no file of settings, since it has over 200,000 bytes",
    NESTED[:100_000]: "config_files: 'c.yaml' nests its values too deep",
    "{a: " * 5000: "config_files: 'c.yaml' nests its values too deep",
    "- a\n- b": "holds no `key: value` lines; fill it in or leave it out",
    "text": "holds no `key: value` lines",
    "topk: [5]\ntopk: [10]": "line 2 of 'c.yaml' names 'topk' a second time; leave one of the two out",
    "eval_args:\n  order: RO\n  order: TO": "line 3 of 'c.yaml' names 'order' a second time",
    "3: 4": "has 3 in the place of a setting's name",
    "[1]: 4": "config_files: 'c.yaml' is not valid yaml",
    "a: !!python/object/apply:os.abort []": "line 1 of 'c.yaml' has the tag 'tag:yaml.org,2002:python/object/apply:os",
    "a: 1\n---\nb: 2": "config_files: 'c.yaml' is not valid yaml",
    "a: \0": "config_files: 'c.yaml' is not valid yaml",
    "seed: " + "9" * 5000: "config_files: 'c.yaml' is not valid yaml",
    "a: caf\u00e9".encode("latin-1"): "config_files: 'c.yaml' is not valid yaml: 'utf-8' codec can't decode",
}


@pytest.mark.parametrize("content", YAML, ids=lambda value: str(value)[:40])
def test_a_file_of_settings_that_is_none(sentence_of, content) -> None:
    key = content.partition(":")[0] if isinstance(content, str) else ""
    Path("c.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert YAML[content] in sentence_of("--config_files=c.yaml", without=(key,))


@pytest.mark.parametrize("without", [(), ("dataset",)])
def test_a_file_of_settings_of_gigabytes_is_refused_unread(sentence_of, without) -> None:
    Path("c.yaml").touch()
    os.truncate("c.yaml", 2**36)  # a hole: it takes no place on the disk
    refused = sentence_of("--config_files=c.yaml", without=without)
    assert "config_files: 'c.yaml' is no file of settings, since it has over 200,000 bytes" in refused


def test_a_file_of_settings_with_a_byte_order_mark_and_aliases_is_read(flags) -> None:
    Path("c.yaml").write_text("small: &small [5, 10]\ntopk: *small\nseed: 2020\n", encoding="utf-8-sig")
    given = {key: value for key, value in flags.items() if key not in ("topk", "seed")}
    config = Config("BPR", "toy", ["c.yaml"], given, ())
    assert (config["topk"], config["seed"]) == ([5, 10], 2020)


BODY = HEADER + rows()
FILES: list[tuple[str | bytes, list[str], str]] = [
    (
        BODY.replace("item_id:token", "item_id:token_seq"),
        [],
        "'item_id' of 'toy.inter' has the type token_seq; ids are tokens",
    ),
    (BODY.replace("user_id:token", "user_id:token_seq"), [], "'user_id' of 'toy.inter' has the type token_seq"),
    (BODY.replace("user_id:token", "user_id:float"), [], "has the type float; ids are tokens, so write user_id:token"),
    (BODY.replace("rating:float", "rating:str"), [], "'rating' of 'toy.inter' has the type 'str'; write token, float,"),
    (
        BODY.replace("item_id:token", "thing:token"),
        [],
        "ITEM_ID_FIELD: 'toy.inter' has no column 'item_id', it has user_id, thing",
    ),
    (BODY.replace("item_id:token", "item:token"), [], "did you mean 'item'?"),
    (
        BODY.replace(":token", "").replace(":float", ""),
        [],
        "column 'user_id' of 'toy.inter' has no type; write user_id:token",
    ),
    (rows(), [], "column 'u0' of 'toy.inter' has no type"),
    (BODY.replace("rating:float", "item_id:token"), [], "'toy.inter' has two columns 'item_id'"),
    (BODY.replace("\t", ";"), [], "';' stands between the columns of 'toy.inter', not '\\t'; write field_separator: ';'"),
    (BODY.replace("\t", ","), [], "',' stands between the columns of 'toy.inter', not '\\t'; write field_separator: ','"),
    ("user_id,item_id\n1,2\n", [], "write field_separator: ','"),
    (
        BODY,
        ["--field_separator=;"],
        "'\\t' stands between the columns of 'toy.inter', not ';'; write field_separator: '\\t'",
    ),
    (BODY, ["--field_separator="], "field_separator: '' must be a name"),
    (BODY.replace("\t", "||"), ["--field_separator=||"], "field_separator: '||' is no plain character between columns"),
    (BODY.encode("utf-16"), [], "encoding: 'utf-8' does not read 'toy.inter'; write --encoding=utf-16"),
    (BODY.replace("u3\t", "\u00fc3\t").encode("latin-1"), [], "encoding: 'utf-8' does not read 'toy.inter' after line"),
    (BODY.replace("u3\t", "u\0\t"), [], "line 23 of 'toy.inter' holds the character NUL"),
    (BODY.replace("rating", "ra\0ting"), [], "line 1 of 'toy.inter' holds the character NUL"),
    ("\n" + BODY, [], "line 1 of 'toy.inter' is blank; take it out"),
    (BODY + "u1\ti3\n", [], "line 86 of 'toy.inter' has 2 columns and its header 4; mend it"),
    (BODY + "u1\n", [], "line 86 of 'toy.inter' has 1 columns and its header 4"),
    (BODY + "u1\ti3\t1\t2\t3\n", [], "line 86 of 'toy.inter' has 5 columns and its header 4"),
    (HEADER + rows().replace("\n", "\t9\n"), [], "line 2 of 'toy.inter' has 5 columns and its header 4"),  # pandas: an index
    (BODY + "u1\ti3\tgood\t2\n", [ALL_COLUMNS], "'good'"),
    (BODY + "u1\ti3\t1\t2020-01-01\n", [ALL_COLUMNS], "'2020-01-01'"),
    ("", [], "'toy.inter' holds no interaction; it needs a header and rows"),
    (HEADER, [], "'toy.inter' holds no interaction"),
    (HEADER + "\n\n", [], "'toy.inter' holds no interaction"),
    (HEADER + "u1\ti1\t1\t1\n", [], "part is empty"),
    (
        BODY + every(15, "glutton"),
        [],
        "user 'glutton' has all 15 items, so no item is left to draw as a negative; leave such users",
    ),
    (HEADER + every(9, "u1", "u2", "u3"), [], "user 'u1' (and 2 others) has all 9 items"),
    (HEADER + every(9, "u1"), ["--eval_args={'mode':'uni5'}"], "user 'u1' has all 9 items"),
]


@pytest.fixture
def write(flags) -> Callable[[str | bytes], None]:
    """`write(content)`: makes `content` the only file of the dataset, in a folder that the sentence names shortly."""

    def write(content: str | bytes) -> None:
        folder = Path(flags["data_path"]) / "toy"
        for path in folder.iterdir():
            path.unlink()
        (folder / "toy.inter").write_bytes(content if isinstance(content, bytes) else content.encode())
        del flags["load_col"]

    return write


@pytest.mark.parametrize(("content", "arguments", "sentence"), FILES, ids=[text for _, _, text in FILES])
def test_a_file_of_interactions_that_is_none(sentence_of, write, flags, content, arguments, sentence) -> None:
    write(content)
    folder = str(Path(flags["data_path"]) / "toy") + "/"
    assert sentence in sentence_of(*arguments).replace(folder, "")


def test_the_remedy_for_a_user_who_has_every_item_helps(write, flags) -> None:
    write(BODY + every(15, "glutton"))
    given = {**flags, "user_inter_num_interval": "[0,14]"}
    assert "glutton" not in make_split(Config("BPR", "toy", config_dict=given, arguments=())).whole.field2id_token["user_id"]


@pytest.mark.parametrize(
    "content",
    [
        codecs.BOM_UTF8 + BODY.encode(),
        BODY.replace("\n", "\r\n").encode(),
        (HEADER + "\n" + rows() + "\n").encode(),
        (HEADER + "   \n" + rows()).encode(),
    ],
    ids=["byte order mark", "line ends of Windows", "blank second line", "line of blanks"],
)
def test_what_can_be_read_over_is_read_over(write, flags, content) -> None:
    write(content)
    found = make_split(Config("BPR", "toy", config_dict=flags, arguments=()))
    write_again = {**flags, "load_col": {"inter": ["user_id", "item_id"]}}
    (Path(flags["data_path"]) / "toy" / "toy.inter").write_text(BODY, encoding="utf-8")
    assert found.fingerprint == make_split(Config("BPR", "toy", config_dict=write_again, arguments=())).fingerprint


@pytest.mark.parametrize("model", ["EASE", "Pop", "ItemKNN"])
def test_a_model_without_epochs_is_validated_whatever_eval_step_says(flags, model) -> None:
    config = Config(model, "toy", config_dict={**flags, "model": model, "eval_step": 2}, arguments=())
    assert pipeline.run_of(config)["best_valid_score"] > 0


def test_a_teacher_without_epochs_is_validated_too(flags) -> None:
    teachers = {"teachers": ["EASE"], "teacher_config": {"EASE": {"eval_step": 2}}, "without_distillation": False}
    given = {**flags, **teachers, "model": "HetCompStudent"}
    result = pipeline.run_of(Config("HetCompStudent", "toy", config_dict=given, arguments=()))
    assert [row["model"] for row in result["comparison"] if row["role"] == "teacher"] == ["EASE"]


def test_a_sentence_is_one_line_of_at_most_400_characters_with_its_remedy() -> None:
    error = UserError("setting: " + "value\n" * 1000 + "; write another one")
    assert len(error.sentence) == LONGEST == 400
    assert error.sentence.startswith("setting: value value")
    assert error.sentence.endswith("; write another one")
    assert "\n" not in error.sentence
    assert UserError("short").sentence == "short"
    assert len(shown("x" * 5000)) < 100
    assert shown(10**5000) == "a int that is too long to show"


PHASES = ["Config", "make_split", "check", "prepare", "run_on_split", "show_result"]


@pytest.mark.parametrize("phase", PHASES)
def test_an_interruption_of_any_phase_is_exit_code_130(flags, capsys, monkeypatch, phase) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    if phase == "show_result":  # nothing is trained for it
        monkeypatch.setattr(pipeline, "run_on_split", lambda *_, **__: {"checkpoint": None})
    monkeypatch.setattr(pipeline, phase, interrupted)
    assert main([f"--{key}={value}" for key, value in flags.items()]) == 130
    assert capsys.readouterr().err.splitlines()[-1].startswith("hetcomp: interrupted")


# --- files that nobody thought of ------------------------------------------------------------------------------------


@pytest.fixture
def texts(monkeypatch) -> Any:
    """benchmarks/trust/texts.py: damaged files, one a seed."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "trust"))
    import texts

    return texts


SEEDS = 150


def outcomes(files: Iterable[bytes], path: Path, read: Callable[[bytes], object]) -> list[str]:
    """For each content of `path` "read", or the sentence of a UserError; whatever else is raised fails the test."""
    found, before = [], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for content in files:
        path.write_bytes(content)
        try:
            read(content)
            found.append("read")
        except UserError as error:
            found.append(error.sentence)
    assert not any("\n" in sentence or len(sentence) > LONGEST for sentence in found)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # KiB
    return found


def test_damaged_interactions_are_read_or_refused(texts, write, flags) -> None:
    write("")
    flags["load_col"] = {"inter": "*"}
    found = outcomes(
        map(texts.damaged_interactions, range(SEEDS)),
        Path(flags["data_path"]) / "toy" / "toy.inter",
        lambda _: make_split(Config("BPR", "toy", config_dict=flags, arguments=())),
    )
    assert SEEDS // 5 < found.count("read") < SEEDS - SEEDS // 5
    assert len(set(found)) > SEEDS // 10


def test_damaged_settings_are_read_or_refused(texts, write, flags, monkeypatch) -> None:
    write(BODY)
    monkeypatch.setattr("os.abort", lambda: pytest.fail("code of the file has run"))

    def read(content: bytes) -> None:
        given = {key: value for key, value in flags.items() if f"{key}:".encode() not in content or key == "data_path"}
        config = Config(given.pop("model", None), given.pop("dataset", None), ["c.yaml"], given, ())
        check(config)
        make_split(config)

    found = outcomes(map(texts.damaged_settings, range(SEEDS)), Path("c.yaml"), read)
    assert 0 < found.count("read") < SEEDS - SEEDS // 5
    assert len(set(found)) > SEEDS // 5
