"""Damaged files of a user: atomic files and settings, spoilt as editors, exports and attackers spoil them.

`damaged_interactions(seed)` and `damaged_settings(seed)` give the bytes of a file, always the same for a seed.
"""

from __future__ import annotations

import codecs
import random
from collections.abc import Callable, Sequence

Table = list[list[str]]  # a header and rows, as text columns
ODD = [
    "NA",
    "nan",
    "None",
    "inf",
    "-inf",
    "1e400",
    "0x10",
    "1_000",
    "2020-01-01",
    "9" * 400,
    "u" * 5000,
    "=1+1",
    "1,5",
    "-1",
]
ODD += ["", " ", "a b", '"', '""', "'", "\\", "#", "[1]", "u1", "i1", "\u2028", "\u202e", "\u00fc", "\ud7ff", "\U0001f600"]
TYPES = ("token", "float", "token_seq", "float_seq", "str", "", "TOKEN", "int")


def damaged_interactions(seed: int) -> bytes:
    """An .inter file of 12 users and 15 items with one to three damages."""
    draw = random.Random(seed)
    table: Table = [["user_id:token", "item_id:token", "rating:float", "timestamp:float"]]
    table += [
        [f"u{user}", f"i{(user * 7 + k * 2) % 15}", str(1 + k % 5), str(100 + k)] for user in range(12) for k in range(7)
    ]
    for damage in draw.choices(OF_TABLES, k=draw.choice((0, 0, 1, 1, 2))):
        damage(table, draw)
    separator = draw.choice(("\t",) * 20 + (";", ",", " ", "|", "\t\t"))
    ends = draw.choice(("\n",) * 6 + ("\r\n", "\r", "\n\n"))
    data = (ends.join(separator.join(row) for row in table) + draw.choice((ends, ends, ""))).encode("utf-8", "surrogatepass")
    for damage_bytes in draw.choices(OF_BYTES, k=draw.choice((0, 0, 1))):
        data = damage_bytes(data, draw)
    return data


def damaged_settings(seed: int) -> bytes:
    """A yaml file of settings: lines with values of all sorts, aliases, and damages to its bytes."""
    draw = random.Random(seed)
    lines = [draw.choice(LINES)(draw) for _ in range(draw.randint(1, 4))]
    data = "\n".join([*lines, ""]).encode("utf-8", "surrogatepass")
    for damage_bytes in draw.choices(OF_BYTES, k=draw.choice((0, 0, 0, 1))):
        data = damage_bytes(data, draw)
    return data


# ---- damages to a table ------------------------------------------------------------------------------------------------


def _drop_column(table: Table, draw: random.Random) -> None:
    place = draw.randrange(len(table[0]))
    for row in table:
        del row[place : place + 1]


def _double_column(table: Table, draw: random.Random) -> None:
    place = draw.randrange(len(table[0]) or 1)
    for row in table:
        row.extend(row[place : place + 1])


def _swap_columns(table: Table, draw: random.Random) -> None:
    order = draw.sample(range(len(table[0])), len(table[0]))
    table[:] = [[row[place] if place < len(row) else "" for place in order] for row in table]


def _change_header(table: Table, draw: random.Random) -> None:
    place = draw.randrange(len(table[0]) or 1)
    for index, name in enumerate(table[0]):
        if index == place:
            plain = name.partition(":")[0]
            kinds = [plain, f"{plain}:{draw.choice(TYPES)}", f":{draw.choice(TYPES)}", f"{name}:x", name.upper()]
            table[0][index] = draw.choice([*kinds, draw.choice(ODD)])


def _drop_header(table: Table, draw: random.Random) -> None:
    del table[0]
    if not table:
        table.append([""])


def _keep_few_rows(table: Table, draw: random.Random) -> None:
    del table[draw.choice((1, 2, 3, 5)) :]


def _shorten_row(table: Table, draw: random.Random) -> None:
    row = draw.choice(table)
    del row[draw.randrange(len(row) + 1) :]


def _lengthen_row(table: Table, draw: random.Random) -> None:
    draw.choice(table).extend(draw.choices(ODD, k=draw.choice((1, 1, 5))))


def _blank_lines(table: Table, draw: random.Random) -> None:
    for _ in range(draw.choice((1, 3))):
        table.insert(draw.choice((0, 1, len(table) // 2, len(table))), [draw.choice(("", " ", "\t\t\t"))])


def _odd_values(table: Table, draw: random.Random) -> None:
    for _ in range(draw.choice((1, 1, 20))):
        row = draw.choice(table[1:] or table)
        if row:
            row[draw.randrange(len(row))] = draw.choice(ODD)


def _one_value_everywhere(table: Table, draw: random.Random) -> None:
    place, value = draw.randrange(len(table[0]) or 1), draw.choice(ODD)
    for row in table[1:]:
        row[place : place + 1] = [value]


def _repeat_rows(table: Table, draw: random.Random) -> None:
    table.extend(list(row) for row in draw.choices(table, k=draw.choice((1, 40))))


def _every_item(table: Table, draw: random.Random) -> None:
    table.extend(["glutton", f"i{item}", "3", "7"] for item in range(15))


OF_TABLES: Sequence[Callable[[Table, random.Random], None]] = (
    _drop_column,
    _double_column,
    _swap_columns,
    _change_header,
    _drop_header,
    _keep_few_rows,
    _shorten_row,
    _lengthen_row,
    _blank_lines,
    _odd_values,
    _odd_values,
    _one_value_everywhere,
    _repeat_rows,
    _every_item,
)


# ---- damages to bytes --------------------------------------------------------------------------------------------------


def _byte_order_mark(data: bytes, draw: random.Random) -> bytes:
    return draw.choice((codecs.BOM_UTF8, codecs.BOM_UTF8 * 2, codecs.BOM_UTF16_LE, codecs.BOM_UTF32_LE)) + data


def _other_encoding(data: bytes, draw: random.Random) -> bytes:
    text = data.decode("utf-8", "replace") + draw.choice(("", "\u00fc\tb\tc\td\n"))
    return text.encode(draw.choice(("utf-16", "utf-32", "latin-1", "cp1252", "utf-7")), "replace")


def _nul_bytes(data: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(data) + 1)
    return data[:place] + b"\0" * draw.choice((1, 1, 4096)) + data[place:]


def _random_bytes(data: bytes, draw: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.choice((1, 5, 100))):
        if changed:
            changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed)


def _cut(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randrange(len(data) + 1)]


def _twice(data: bytes, draw: random.Random) -> bytes:
    return data + data


OF_BYTES = (_byte_order_mark, _other_encoding, _nul_bytes, _random_bytes, _cut, _twice)


# ---- lines of settings -------------------------------------------------------------------------------------------------


def _words(lines: str, between: str = " ") -> list[str]:
    return [word for line in lines.strip().splitlines() for word in line.strip().split(between)]


KEYS = _words("""
    additional_feat_suffix alias_of_item_id benchmark_filename checkpoint_dir data_path dataset encoding epochs eval_args
    field_separator gpu_id learning_rate load_col metrics model normalize_all nothing_reads_this numerical_features
    rm_dup_inter seed seq_separator show_progress split_seed state threads threshold TIME_FIELD topk train_batch_size
    train_neg_sample_args unload_col USER_ID_FIELD user_inter_num_interval val_interval valid_metric verbose weight_decay
""")
VALUES = (
    """
~ | 3 | -1 | 0 | 1.5 | .nan | .inf | 1e38 | yes | no | true | word | 'two words' | 2020-01-01 | 1:30 | 010 | 0x10 | [] | {}
[1, two] | [[1], [2]] | {a: 1} | {inter: 3} | {inter: [3, x]} | '' | '\\0' | "\\0" | "\\ud800" | Recall@5 | [5] | 5
{inter: [user_id, item_id, rating]} | {split: {RS: [1, 1]}} | {order: TO} | {mode: uni5} | {mode: 3} | '[0,3]' | '(1,'
{rating: '[2,9]'} | !!python/object/apply:os.abort [] | !x y | __import__('os').abort() | ../x | / | - 1 | &x [*x]
*unknown | << | toy | [Recall] | 999999999999999999999999999999
""".strip()
    .replace("\n", " | ")
    .split(" | ")
)
VALUES += ["u" * 3000, "|\n  block"]


def _plain_line(draw: random.Random) -> str:
    return f"{draw.choice(KEYS)}: {draw.choice(VALUES)}"


def _nested(draw: random.Random) -> str:
    opening, closing = draw.choice((("[", "]"), ("{a: ", "}"), ("- ", "")))
    depth = draw.choice((3, 50, 2000))
    return f"{draw.choice(KEYS)}: {opening * depth}{closing * draw.choice((0, depth))}"


def _aliases(draw: random.Random) -> str:
    """Nine aliases of nine aliases, and so on: a few lines that stand for up to 9^9 values."""
    levels = draw.choice((1, 3, 9))
    lines = ["a0: &a0 [x, x, x]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, levels + 1)]
    return "\n".join([*lines, f"{draw.choice(KEYS)}: *a{levels}"])


def _merged(draw: random.Random) -> str:
    return f"base: &base {{a: 1}}\n{draw.choice(KEYS)}: {{<<: {draw.choice(('*base', '[*base, *base]', '3', '[1]'))}, b: 2}}"


def _odd_key(draw: random.Random) -> str:
    return f"{draw.choice(('3', '~', '[1]', '{a: 1}', '? x', '2020-01-01', 'true', '.nan', '!!binary aGk='))}: 3"


def _no_pairs(draw: random.Random) -> str:
    return draw.choice(("- a", "text", "---", "...", "%YAML 9.9", "\t", "#", "@", "topk: [5]\ntopk: [6]", "a: b: c", "}"))


LINES = (_plain_line,) * 12 + (_nested, _aliases, _merged, _odd_key, _no_pairs)
