"""Teachers that are a file of vectors: data that are checked, mapped by tokens, and good for every method."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, strategies
from hypothesis import settings as examples
from safetensors.torch import load_file, save_file

from recbole_hetcomp import quick_start
from recbole_hetcomp.commands.vectors import write_vectors
from recbole_hetcomp.config.errors import UserError
from recbole_hetcomp.config.registry import get_model, properties_dir
from recbole_hetcomp.model.batch import Batch
from recbole_hetcomp.model.embedding_student import EmbeddingStudent
from recbole_hetcomp.quick_start import run_hetcomp
from recbole_hetcomp.teacher_training.scheduling import build_pool
from recbole_hetcomp.teachers import Needs
from recbole_hetcomp.teachers.pool import TeacherPool
from recbole_hetcomp.teachers.single import SingleTeacher
from recbole_hetcomp.teachers.trajectory import checksum
from recbole_hetcomp.teachers.vectors import FORMAT, EntityVectors, is_vector_file

SIZE = 6
FILE = Path("mine.safetensors")


@pytest.fixture
def tokens(split):
    """(user tokens, item tokens) of `toy`, padding left out."""
    return tuple([str(token) for token in split.whole.field2id_token[field][1:]] for field in ("user_id", "item_id"))


@pytest.fixture
def vectors(tokens):
    """Random vectors of all users and items."""
    generator = torch.Generator().manual_seed(5)
    rows = [torch.randn(len(part), SIZE, generator=generator) for part in tokens]
    return EntityVectors(*rows, *tokens, teacher="elsewhere")


@pytest.fixture
def teacher_of(make_config, split):
    """`teacher_of(vectors)`: the teacher that they are as a file."""

    def make(made: EntityVectors):
        made.save(FILE)
        return build_pool(make_config("HetCompStudent", teachers=[str(FILE)]), split).teachers[0]

    return make


def some(made: EntityVectors, users: list[int], items: list[int]) -> EntityVectors:
    """The vectors in these places alone."""
    return replace(
        made,
        users=made.users[users],
        items=made.items[items],
        user_tokens=[made.user_tokens[user] for user in users],
        item_tokens=[made.item_tokens[item] for item in items],
    )


def test_a_file_is_read_as_it_was_written(vectors) -> None:
    vectors.save(FILE)
    read = EntityVectors.load(FILE)
    assert is_vector_file(FILE)
    assert torch.equal(read.users, vectors.users)
    assert torch.equal(read.items, vectors.items)
    assert (read.user_tokens, read.item_tokens, read.teacher) == (vectors.user_tokens, vectors.item_tokens, "elsewhere")


@pytest.mark.parametrize("tokens", [["a b", "ä€", '"q", x', " lead", "\t"], ["nan", "NA", "0", "1.0", "\r"]])
def test_tokens_are_taken_as_they_are(tokens) -> None:
    EntityVectors(torch.zeros(0, 2), torch.ones(5, 2), [], tokens).save(FILE)
    assert EntityVectors.load(FILE).item_tokens == tokens


def test_vectors_stay_as_they_were_read_when_the_file_is_written_over(vectors) -> None:
    vectors.save(FILE)
    read = EntityVectors.load(FILE)
    with open(FILE, "r+b") as file:
        file.write(b"\xff" * FILE.stat().st_size)
    assert torch.equal(read.users, vectors.users)
    assert torch.equal(read.items, vectors.items)


def test_scores_are_the_products_and_embeddings_the_vectors(vectors, teacher_of, split) -> None:
    teacher = teacher_of(vectors)
    users = split.history.active_users[:7]
    assert torch.allclose(teacher.scores(users)[:, 1:], vectors.users[users - 1] @ vectors.items.T, atol=1e-5)
    own = teacher.embeddings()
    assert torch.equal(own[0][1:], vectors.users)
    assert torch.equal(own[1][1:], vectors.items)


def test_lists_are_the_best_products_outside_the_training_items(vectors, teacher_of, split) -> None:
    lists = teacher_of(vectors).trajectory
    products = vectors.users @ vectors.items.T
    for user in split.history.active_users.tolist():
        trained = {item for item in split.history.padded(torch.tensor([user]))[0].tolist() if item}
        order = (products[user - 1].argsort(descending=True) + 1).tolist()
        assert lists.items[0, user].tolist() == [item for item in order if item not in trained][: lists.items.size(2)]
        assert [item for item in lists.observed[user].tolist() if item] == [item for item in order if item in trained]


def test_the_order_of_the_rows_plays_no_role(vectors, teacher_of) -> None:
    """Rows of vectors go with their tokens, so a permuted file is the same teacher."""
    shuffled = [
        torch.randperm(len(part), generator=torch.Generator().manual_seed(1)).tolist() for part in vectors_of(vectors)
    ]
    first, second = teacher_of(vectors), teacher_of(some(vectors, *shuffled))
    assert torch.equal(first.trajectory.items, second.trajectory.items)
    assert all(torch.equal(one, other) for one, other in zip(first.embeddings(), second.embeddings()))


def vectors_of(made: EntityVectors) -> tuple[torch.Tensor, torch.Tensor]:
    return made.users, made.items


def test_who_has_no_vector_has_no_list_and_no_opinion(vectors, teacher_of, split, make_config) -> None:
    """Users without lists, items in none; the score of an item without a vector is the mean of the others'."""
    teacher = teacher_of(some(vectors, list(range(0, 60, 2)), list(range(0, 80, 2))))
    known_users, known_items = (torch.tensor([0, *[1, 0] * 40])[: n + 1] > 0 for n in (60, 80))
    assert torch.equal(teacher.covered.user[:61], known_users)
    assert torch.equal(teacher.covered.item[:81], known_items)
    listed = teacher.trajectory.items[0]
    active = split.history.active_users
    assert torch.equal(listed[active].any(1), known_users[active])
    assert teacher.covered.item[listed[listed > 0].long()].all()
    scores = teacher.scores(active)
    means = scores[:, teacher.covered.item].mean(1)
    unknown = scores[:, [item for item in range(1, split.whole.item_num) if not teacher.covered.item[item]]]
    assert torch.allclose(unknown, means[:, None].expand_as(unknown), atol=1e-5)
    pool = build_pool(make_config("HetCompStudent", teachers=[str(FILE)]), split)
    single = SingleTeacher.from_config(pool, split.history, make_config("HetCompStudent"))
    assert torch.equal(~single.without_list[active], known_users[active])


def test_items_alone_make_users_of_their_items(vectors, teacher_of, split) -> None:
    teacher = teacher_of(some(vectors, [], list(range(0, 80, 3))))
    users, items = teacher.embeddings()
    for user in split.history.active_users[:20].tolist():
        own = [item for item in split.history.padded(torch.tensor([user]))[0].tolist() if item % 3 == 1]
        assert torch.allclose(users[user], items[own].mean(0) if own else torch.zeros(SIZE), atol=1e-5)


def test_the_log_says_what_is_covered_and_warns_of_little(vectors, teacher_of, caplog) -> None:
    caplog.set_level(logging.INFO)
    teacher_of(vectors)
    assert "vectors of 100% of the users and 100% of the items" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    teacher_of(some(vectors, list(range(12)), list(range(80))))
    warned = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warned) == 1
    assert "vectors of 20% of the users" in warned[0]


@pytest.mark.parametrize("side", ["user", "item"])
def test_of_a_side_with_other_tokens_the_vectors_are_means_of_the_other_side(vectors, teacher_of, split, side) -> None:
    """As for two domains that share their items and no users, or the other way round."""
    foreign = {f"{side}_tokens": [f"x{token}" for token in getattr(vectors, f"{side}_tokens")]}
    users, items = teacher_of(replace(vectors, **foreign)).embeddings()
    own, other = (users, items) if side == "user" else (items, users)
    pairs = [divmod(pair, split.history.n_items) for pair in split.history.pairs.tolist()]
    for entity in {pair[side == "item"] for pair in pairs[::17]}:
        near = [pair[side == "user"] for pair in pairs if pair[side == "item"] == entity]
        assert torch.allclose(own[entity], other[near].mean(0), atol=1e-5)


def test_other_tokens_on_both_sides_are_refused(vectors, teacher_of) -> None:
    foreign = {f"{side}_tokens": [f"x{token}" for token in getattr(vectors, f"{side}_tokens")] for side in ("user", "item")}
    with pytest.raises(UserError, match="has vectors of no user and no item of this dataset"):
        teacher_of(replace(vectors, **foreign))


WRONG = {
    "NaN": ({"items": torch.full((3, 2), torch.nan)}, "not finite"),
    "infinite": ({"users": torch.full((2, 2), torch.inf)}, "not finite"),
    "huge": ({"users": torch.full((2, 2), -1e30)}, "above"),
    "above a million": ({"users": torch.full((2, 2), 2e6)}, "above 1e"),
    "too wide": (
        {"items": torch.zeros(3, 2**14 + 1), "users": torch.zeros(0, 2**14 + 1), "user_tokens": []},
        "vectors of 16,385 numbers are wider than any model's, 16,384",
    ),
    "no tensor": ({"items": [[1.0, 2.0]] * 3}, "vectors of items are a list; give a torch.Tensor"),
    "numpy's array": ({"users": torch.ones(2, 2).numpy()}, "vectors of users are a ndarray"),
    "tokens that are numbers": ({"item_tokens": ["a", 7, "c"]}, "the token 7 of an item is a int; give strings"),
    "other widths": ({"users": torch.zeros(2, 3)}, "one width"),
    "one dimension": ({"items": torch.zeros(3)}, "one width"),
    "whole numbers": ({"items": torch.zeros(3, 2, dtype=torch.int64)}, "floating point"),
    "no item": ({"items": torch.zeros(0, 2), "item_tokens": []}, "no vector of an item"),
    "no numbers": ({"items": torch.zeros(3, 0), "users": torch.zeros(2, 0)}, "no vector of an item"),
    "too few tokens": ({"item_tokens": ["a", "b"]}, "3 vectors of items have 2 tokens"),
    "a token twice": ({"item_tokens": ["a", "b", "a"]}, "'a' of an item is there twice"),
    "an empty token": ({"user_tokens": ["a", ""]}, "is empty"),
    "a line break": ({"user_tokens": ["a", "b\nc"]}, "line break"),
}


def parts(**changes) -> dict:
    given = {"users": torch.ones(2, 2), "items": torch.ones(3, 2), "user_tokens": ["a", "b"], "item_tokens": ["a", "b", "c"]}
    return {**given, **changes}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_vectors_is_one_sentence(wrong) -> None:
    changes, sentence = WRONG[wrong]
    with pytest.raises(UserError, match=sentence):
        EntityVectors(**parts(**changes))


def text(*lines: str) -> torch.Tensor:
    return torch.tensor(list("\n".join(lines).encode()), dtype=torch.uint8)


IN_A_FILE = {
    "NaN": ({"items": torch.full((3, 2), torch.nan)}, "not finite"),
    "a token twice": ({"item_tokens": text("a", "b", "a")}, "there twice"),
    "tokens of another type": ({"item_tokens": torch.ones(3)}, "not bytes"),
    "tokens that are no text": ({"item_tokens": torch.tensor([255, 10, 254, 10, 253], dtype=torch.uint8)}, "utf-8"),
    "float64 is fine": ({"items": torch.ones(3, 2, dtype=torch.float64)}, None),
    "half is fine": ({"items": torch.ones(3, 2).half(), "users": torch.ones(2, 2).half()}, None),
    "without tokens": ({"item_tokens": None}, "item_tokens"),
    "without tokens of users": ({"user_tokens": None}, "user_tokens"),
    "without items": ({"items": None}, "it has no items"),
}


@pytest.mark.parametrize("wrong", IN_A_FILE)
def test_a_file_of_another_system_is_checked_like_any(wrong) -> None:
    """With a checksum that is right: it says that nothing was damaged, and not that what is there is sense."""
    changes, sentence = IN_A_FILE[wrong]
    given = {**parts(user_tokens=text("a", "b"), item_tokens=text("a", "b", "c")), **changes}
    given = {name: tensor for name, tensor in given.items() if tensor is not None}
    metadata = {"format": FORMAT, "teacher": "mine"}
    save_file(given, FILE, {**metadata, "sha256": checksum(given, metadata)})
    if sentence is None:
        assert EntityVectors.load(FILE).items.shape == (3, 2)
        return
    with pytest.raises(UserError, match=sentence):
        EntityVectors.load(FILE)


@examples(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=strategies.floats(0, 1, exclude_max=True), value=strategies.integers(1, 255), cut=strategies.booleans())
def test_a_damaged_file_is_one_sentence(place, value, cut) -> None:
    EntityVectors(**parts()).save(FILE)
    whole = bytearray(FILE.read_bytes())
    at = int(place * len(whole))
    if cut:
        FILE.write_bytes(whole[:at])
    else:
        whole[at] ^= value
        FILE.write_bytes(whole)
    with pytest.raises(UserError, match="cannot be read as vectors"):
        EntityVectors.load(FILE)


def test_a_damaged_file_among_the_teachers_is_called_a_file_of_vectors(make_config, split, vectors) -> None:
    vectors.save(FILE)
    whole = FILE.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    cut = [whole[:at] for at in (start - 1, start, start + 1, len(whole) - 1)]
    for damaged in [
        *cut,
        b"\x01" + whole[1:],
        b"\xff" * 8 + whole[8:],
        whole[:-1] + b"\xff",
        whole.replace(b"shape", b"shope", 1),
    ]:
        FILE.write_bytes(damaged)
        assert is_vector_file(FILE)
        with pytest.raises(UserError, match="cannot be read as vectors"):
            build_pool(make_config("HetCompStudent", teachers=[str(FILE)]), split)


def test_vectors_are_among_the_functions_for_python(vectors) -> None:
    assert quick_start.EntityVectors is EntityVectors
    assert quick_start.write_vectors is write_vectors
    assert {"EntityVectors", "write_vectors"} <= {*quick_start.__all__}


def test_tokens_that_the_data_do_not_have_are_named(vectors, teacher_of, caplog) -> None:
    foreign = ["x" * 900, *vectors.item_tokens[1:]]
    with caplog.at_level(logging.INFO):
        teacher_of(replace(vectors, item_tokens=foreign))
    (line,) = [record.getMessage() for record in caplog.records if "of the training set" in record.getMessage()]
    assert "; the data do not have 1 items ('xxxxxxxxxxxxxxxxxxxxxxxx...')" in line
    assert len(line) <= 400
    foreign = {f"{side}_tokens": [f"x{token}" for token in getattr(vectors, f"{side}_tokens")] for side in ("user", "item")}
    with pytest.raises(
        UserError, match=r"of this dataset, but of 61 users \('x.*', 'x.*', 'x.*', \.\.\.\) and 81 items \('x"
    ):
        teacher_of(replace(vectors, **foreign))


@pytest.mark.parametrize("changes", [{"format": "recbole_hetcomp.vectors/2"}, {"format": None}])
def test_another_format_is_not_believed(changes, make_config, split) -> None:
    given = parts(user_tokens=text("a", "b"), item_tokens=text("a", "b", "c"))
    metadata = {name: value for name, value in {"teacher": "mine", **changes}.items() if value}
    save_file(given, FILE, {**metadata, "sha256": checksum(given, metadata)})
    with pytest.raises(UserError, match=r"it has format .*, this version reads 'recbole_hetcomp.vectors/1'"):
        EntityVectors.load(FILE)
    assert is_vector_file(FILE) == ("vectors/2" in str(changes))


def test_a_file_without_a_teacher_is_refused_by_that_word() -> None:
    given = parts(user_tokens=text("a", "b"), item_tokens=text("a", "b", "c"))
    save_file(given, FILE, {"format": FORMAT, "sha256": checksum(given, {"format": FORMAT})})
    with pytest.raises(UserError, match="it has no teacher"):
        EntityVectors.load(FILE)


def test_one_table_for_both_sides_and_a_parameter_are_saved() -> None:
    table = torch.nn.Parameter(torch.arange(6.0).view(3, 2))
    EntityVectors(table, table, list("abc"), list("xyz")).save(FILE)
    read = EntityVectors.load(FILE)
    assert torch.equal(read.users, table.detach())
    assert torch.equal(read.items, table.detach())


def test_the_fingerprint_is_that_of_the_content_that_was_read(vectors, teacher_of, monkeypatch) -> None:
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} is read once more"))
    first = teacher_of(vectors).trajectory.config_fingerprint
    assert first == teacher_of(vectors).trajectory.config_fingerprint == EntityVectors.load(FILE).fingerprint != ""
    assert teacher_of(replace(vectors, items=vectors.items + 1)).trajectory.config_fingerprint != first
    assert vectors.fingerprint == ""


def test_scores_too_small_to_be_told_apart_are_refused(vectors, teacher_of) -> None:
    for scale in (1e-12, 1e-15, 1e-18):
        small = replace(vectors, users=vectors.users * scale, items=vectors.items * scale)
        with pytest.raises(UserError, match=r"too small or too large to be told apart; scale its vectors|teaches nothing"):
            teacher_of(small)
    with pytest.raises(UserError, match="too small or too large"):
        teacher_of(replace(vectors, users=vectors.users * 1e-15, items=vectors.items * 1e-15))


def test_the_largest_numbers_have_a_finite_deviation(vectors, teacher_of, split) -> None:
    teacher = teacher_of(replace(vectors, users=vectors.users.sign() * 1e6, items=vectors.items.sign() * 1e6))
    single = SingleTeacher(TeacherPool([teacher]), split.history, weighting=0, max_block_mb=1, seed=0)
    assert single.deviations[split.history.active_users].isfinite().all()


def test_a_file_without_its_checksum_is_refused(vectors) -> None:
    vectors.save(FILE)
    tensors = load_file(FILE)
    save_file(tensors, FILE, {"format": FORMAT, "teacher": "mine"})
    with pytest.raises(UserError, match="does not have its checksum"):
        EntityVectors.load(FILE)


def test_what_is_no_vector_file_is_left_to_the_reader_of_lists(make_config, split) -> None:
    for content in (b"", b"\xff" * 40, b"{}", (10).to_bytes(8, "little") + b"x" * 10):
        FILE.write_bytes(content)
        assert not is_vector_file(FILE)
        with pytest.raises(UserError, match=r"trajectory 'mine.safetensors' cannot be read"):
            build_pool(make_config("HetCompStudent", teachers=[str(FILE)]), split)


def test_equal_scores_for_all_are_refused(vectors, teacher_of) -> None:
    with pytest.raises(UserError, match="teaches nothing"):
        teacher_of(replace(vectors, items=torch.ones_like(vectors.items)))


def test_it_gives_lists_scores_and_embeddings(vectors, make_config, split) -> None:
    vectors.save(FILE)
    config = make_config("HetCompStudent", teachers=[str(FILE)])
    build_pool(config, split, needs=Needs(trajectories=True, scores=True, embeddings=True))


@pytest.mark.parametrize("method", ["HetComp", "RRD", "FitNet", "UnKD", "KDCE", "EmbedDistill", "HTD"])
@pytest.mark.parametrize("teachers", [[str(FILE)], [str(FILE), "BPR"]])
def test_a_method_learns_from_a_file_that_knows_a_half(method, teachers, vectors, settings) -> None:
    """The comparison at the end evaluates the file like any model, and the file is left as it was."""
    some(vectors, list(range(0, 60, 2)), list(range(0, 80, 2))).save(FILE)
    before = FILE.read_bytes()
    changes = {"teachers": teachers, "without_distillation": False, "list_depth": 20, "n_top": 5, "n_random": 7}
    result = run_hetcomp(f"{method}Student", "toy", config_dict={**settings, **changes}, arguments=())
    assert all(tensor.isfinite().all() for tensor in result["model"].state_dict().values())
    row = result["comparison"][0]
    assert row["model"] == "mine"
    assert row["params"] == (61 + 81 + 2) * SIZE
    assert FILE.read_bytes() == before


def test_no_loss_is_taken_of_who_has_no_vector(vectors, make_model, teacher_of, make_config, split) -> None:
    """The targets of FitNet are of covered users and items alone; where a batch has none of them, one stands in."""
    teacher_of(some(vectors, list(range(0, 60, 2)), list(range(0, 80, 2))))
    model = make_model("FitNetStudent", teachers=[str(FILE)])
    model.learn_from(build_pool(make_config("FitNetStudent", teachers=[str(FILE)]), split))
    users, items = model.sides(Batch(torch.arange(1, 13), torch.arange(5, 25)))
    assert users.ids.tolist() == [1, 3, 5, 7, 9, 11]
    assert items.ids.tolist() == list(range(5, 25, 2))
    users, items = model.sides(Batch(torch.tensor([2, 4]), torch.tensor([6])))
    assert [len(side.ids) for side in (users, items)] == [1, 1]
    assert users.teacher.any()


EMBEDDING_METHODS = [
    path.stem for path in sorted(properties_dir().glob("model/*.yaml")) if issubclass(get_model(path.stem), EmbeddingStudent)
]
# Reverse's tables are functions of the vectors; the other two need a vector of everybody.
ELSEWHERE = {"ReverseStudent", "FreqDStudent", "PCKDStudent"}
OF_LISTS = {"OKDStudent", "OFAStudent", "EmbedDistillStudent"}  # an item without a vector has the mean score


@pytest.mark.parametrize("method", ["FreqDStudent", "PCKDStudent"])
def test_methods_that_need_everybodys_vector_say_so_and_learn_where_they_have_it(
    method, vectors, make_model, teacher_of, make_config, split
) -> None:
    """FreqD's filters mix neighbours' vectors, and PCKD's places are those of all items of a batch."""
    for known, refused in ((list(range(0, 60, 2)), True), (list(range(len(vectors.users))), False)):
        teacher_of(some(vectors, known, list(range(len(vectors.items)))))
        model = make_model(method, teachers=[str(FILE)], list_depth=20)
        pool = build_pool(make_config(method, teachers=[str(FILE)]), split)
        if refused:
            with pytest.raises(UserError, match="needs a vector of each user"):
                model.learn_from(pool)
            continue
        model.learn_from(pool)
        model.on_epoch_start(0)
        assert model.distillation_loss(Batch(model.history.active_users[:12], torch.arange(1, 20))).isfinite()


@pytest.mark.parametrize("method", [name for name in EMBEDDING_METHODS if name not in ELSEWHERE])
def test_no_method_of_vectors_teaches_who_has_no_vector(method, vectors, make_model, teacher_of, make_config, split) -> None:
    """Neither the users, whatever the batch, nor the items of methods that learn vectors alone."""
    teacher_of(some(vectors, list(range(0, 60, 2)), list(range(0, 80, 2))))
    settings = {"teachers": [str(FILE)], "list_depth": 20, "n_top": 5, "n_random": 7, "n_classes": 30, "side": "symmetric"}
    model = make_model(method, **settings, mode="gradient")
    model.learn_from(build_pool(make_config(method, teachers=[str(FILE)]), split))
    model.on_epoch_start(0)
    covered = model.covered
    for users in (torch.arange(2, 14, 2), torch.arange(1, 13)):
        model.zero_grad()
        model.distillation_loss(Batch(users, torch.arange(5, 25))).backward()
        of_users, of_items = (table.grad for table in model.embeddings())
        assert of_users is None or not of_users[~covered.user].any()
        assert method in OF_LISTS or of_items is None or not of_items[~covered.item].any()
    assert of_users[covered.user].any()
