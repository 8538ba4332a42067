"""What `hetcomp --help` and `hetcomp COMMAND --help` print."""

from __future__ import annotations

from typing import NamedTuple

SETTINGS = "Every other --key=value is a setting, of RecBole or of this package: `hetcomp settings MODEL` lists them."


class Command(NamedTuple):
    """A sub-command.

    Attributes:
        usage: the line to type, without `hetcomp`
        what: what it does and leaves
        flags: (flag, meaning) each
        takes_settings: whether settings may follow
    """

    usage: str
    what: str
    flags: tuple[tuple[str, str], ...] = ()
    takes_settings: bool = True


DATASET = ("--dataset=NAME", "a folder with RecBole's files in data_path (ml-100k, which comes with RecBole)")
FILES = ('--config_files="A.yaml B.yaml"', "files of settings, later ones win; or presets: demo, official, submission")
MODEL = ("--model=NAME", "a model of `hetcomp models`")
CHECKPOINT = ("--checkpoint=FILE", "the .pth file of a finished run")
USAGES = {
    "run": Command(
        '[--model=HetCompStudent] [--dataset=ml-100k] [--config_files="a.yaml b.yaml"] [--key=value ...]',
        "Train a model: a distilled student with its teachers, which are trained where need be, or any other one. Prints "
        "the comparison on the test part; checkpoint_dir (saved) gets the checkpoint, comparison.md and report.html.",
        (
            MODEL,
            DATASET,
            FILES,
            ("--nproc=N", "processes on this machine; --world_size, --group_offset, --ip, --port: on several"),
        ),
    ),
    "recommend": Command(
        "recommend --checkpoint=FILE --users=TOKEN,TOKEN|all [--k=10] [--output=FILE.csv|.jsonl|.parquet]",
        "Recommend the best items for users, without those that they have had; to the screen or into a file.",
        (
            CHECKPOINT,
            (
                "--users=A,B",
                "users, by their tokens in the data; one with a comma in quotation marks; all: everybody",
            ),
            ("--users_file=FILE", "users, a line each"),
            ("--history=A,B", "items of somebody new, in place of users"),
            ("--histories_file=FILE", "people who are new, a line each: a name of your choice, then items, as anna,i7,i12"),
            ("--k=10", "items a user"),
            ("--output=FILE", "a .csv, .jsonl or .parquet file"),
            ("--format=csv", "csv, jsonl or parquet, where the file's name does not say it"),
        ),
    ),
    "predict": Command(
        "predict --checkpoint=FILE --input=ROWS.csv [--output=CLICKS.csv]",
        "Write the probability of a click for each row of a file.",
        (CHECKPOINT, ("--input=FILE", "a table with a header"), ("--output=FILE", "the rows and their probabilities")),
    ),
    "export": Command(
        "export --checkpoint=FILE --format=safetensors|npz|onnx|faiss [--dtype=float32|float16|int8] [--output=DIR]",
        "Write a student that is served without this package, with a README that says how.",
        (
            CHECKPOINT,
            ("--format=NAME", "safetensors, npz, onnx or faiss"),
            ("--dtype=float32", "or float16, int8: smaller and less exact"),
            ("--output=DIR", "the folder that is written"),
        ),
    ),
    "vectors": Command(
        "vectors --checkpoint=FILE --output=FILE.safetensors [--rank=64]",
        "Write vectors of users and items, from which other runs may learn.",
        (
            CHECKPOINT,
            ("--output=FILE", "a .safetensors file"),
            ("--rank=64", "size of the vectors where the model has none and its scores are factorised"),
        ),
    ),
    "benchmark": Command(
        "benchmark --models=HetCompStudent,BPR [--seeds=3] [--dataset=ml-100k] [--key=value ...]",
        "Train several models with several seeds on one split. Prints means, spreads and significance; checkpoint_dir gets "
        "benchmark.md and report.html. An interrupted benchmark goes on.",
        (("--models=A,B", "models; the others are compared with the first"), ("--seeds=3", "seeds a model"), DATASET, FILES),
    ),
    "anomalies": Command(
        "anomalies [--output=anomalies.csv] [--dataset=ml-100k] [--key=value ...]",
        "Write how badly each user and item is restored from a small code: the odd ones first.",
        (("--output=FILE", "a CSV file"), DATASET, FILES),
    ),
    "tune-teachers": Command(
        "tune-teachers [--tune=12] [--dataset=ml-100k] [--key=value ...]",
        "Search settings for each teacher and for the student alone, which later runs on the split use. checkpoint_dir gets "
        "tuning.json and report.html.",
        (("--tune=12", "trials a model"), MODEL, DATASET, FILES),
    ),
    "search-student": Command(
        "search-student [--max_parameters=9000] [--max_milliseconds=9] [--space=FILE] [--init=sketch] [--key=value ...]",
        "Rank shapes of students under a budget without training them. checkpoint_dir gets student.yaml with the settings "
        "of the best, student_search.json and report.html.",
        (
            ("--max_parameters=N", "parameters at most"),
            ("--max_milliseconds=T", "milliseconds to rank for 1,000 users at most"),
            ("--space=FILE", "shapes, as docs/training.md has it"),
            ("--init=sketch", "of the untrained tables: sketch or random"),
            DATASET,
            FILES,
        ),
    ),
    "tune": Command(
        "tune --params_file=FILE [--output_file=tuning.txt] [--algo=exhaustive] [--max_evals=10] [--key=value ...]",
        "Search settings of one model by RecBole's HyperTuning.",
        (
            ("--params_file=FILE", "lines such as `learning_rate choice [0.002,0.005]`"),
            ("--output_file=FILE", "all trials"),
            ("--algo=exhaustive", "or random, bayes"),
            ("--max_evals=10", "trials at most"),
            MODEL,
            DATASET,
            FILES,
        ),
    ),
    "report": Command(
        "report FOLDER",
        "Make report.html anew from what runs, benchmarks and searches have left in FOLDER, a checkpoint_dir.",
        takes_settings=False,
    ),
    "models": Command("models", "List what there is, what each is for, and when to take it.", takes_settings=False),
    "settings": Command(
        "settings MODEL [--dataset=ml-100k] [--key=value ...]",
        "List the settings of a model with value, type and meaning.",
        (DATASET, FILES),
    ),
}


def overview() -> str:
    """The help of `hetcomp`."""
    first, *others = (command.usage for command in USAGES.values())
    lines = [f"usage: hetcomp {first}", *(f"       hetcomp {usage}" for usage in others), "       hetcomp --version"]
    return "\n".join([*lines, "", f"{SETTINGS}\nOf one command: hetcomp COMMAND --help. See README.md."])


def help_of(name: str) -> str:
    """The help of one command."""
    command = USAGES[name]
    width = max([len(flag) for flag, _ in command.flags], default=0) + 2
    flags = [f"  {flag:{width}}{meaning}" for flag, meaning in command.flags]
    rest = ["", SETTINGS] if command.takes_settings else []
    return "\n".join([f"usage: hetcomp {command.usage}", "", command.what, *([""] if flags else []), *flags, *rest])
