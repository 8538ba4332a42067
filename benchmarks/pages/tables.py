"""Records as GitHub tables, with the command, the commit and the machine that gave them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from records import Record, Row, read, value
from tabulate import tabulate

HIDDEN = ("differs", "commit")  # the first is shown as a star, the second last and only where rows differ in it
SHARES = ("fidelity", "of the ensemble's", "share of the found")
TITLES = {"ndcg": "NDCG", "mrr": "MRR", "map": "MAP", "params": "parameters", "size": "size", "commit": "measured at"}
TITLES |= {"auc": "AUC", "logloss": "LogLoss", "multiply_adds": "multiply-adds"}
STAR = "\\* differs from {first} ({test}, p < 0.05 after Holm)"


def measured(name: str) -> str:
    """A record's command, where it was run, and its table."""
    record = read(name)
    place = [f"commit `{record['commit']}`" if record["commit"] else "", record["date"], record["machine"]]
    text = f"```bash\n{record['command']}\n```\n\n{_sentence(', '.join(filter(None, place)))}\n\n{table(record)}"
    starred = any("differs" in row for row in record["rows"])
    return text + (f"\n\n{STAR.format(first=record['rows'][0]['model'], test=_test(record['rows']))}." if starred else "")


def _test(rows: list[Row]) -> str:
    """Which test told rows apart: seeds have a spread only where some row has more than one."""
    seeds = any(isinstance(found, dict) for row in rows for found in row.values())
    test = "paired test over rows" if "auc" in rows[0] else "paired t-test over users"
    return test + (", spread of the seeds included" if seeds else "")


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def table(record: Record) -> str:
    """The rows, a column for each key that any of them has; `baseline` adds what each gains over that model."""
    rows: list[Row] = record["rows"]
    keys = list(dict.fromkeys(key for row in rows for key in row if key not in HIDDEN))
    headers = [title(key) for key in keys]
    cells = [[_cell(row, key) for key in keys] for row in rows]
    if "baseline" in record:
        base = next(row for row in rows if row["model"] == record["baseline"])
        headers.append(f"NDCG@10 over {record['baseline']}")
        for row, line in zip(rows, cells):
            line.append(f"{100 * (value(row, 'ndcg@10') / value(base, 'ndcg@10') - 1):+.1f} %")
    if any("commit" in row for row in rows):
        headers.append(title("commit"))
        for row, line in zip(rows, cells):
            line.append(f"`{row['commit']}`" if "commit" in row else "")
    return github(headers, cells, [isinstance(rows[0].get(key), str) for key in keys])


def github(headers: list[str], cells: list[list[str]], left: list[bool]) -> str:
    """A GitHub table; columns where `left` is true stand to the left, the others, and any beyond, to the right."""
    sides = ["left" if side else "right" for side in left] + ["right"] * (len(headers) - len(left))
    return tabulate(cells, headers, tablefmt="github", disable_numparse=True, colalign=sides)


def title(key: str) -> str:
    """How a column is called: recall@50 is Recall@50, params are parameters."""
    word, at, rest = key.partition("@")
    return (TITLES.get(word) or (word.capitalize() if rest.isdigit() else word)) + at + rest


def _cell(row: Mapping[str, Any], key: str) -> str:
    found = row.get(key)
    if found is None:
        return ""
    if isinstance(found, dict):
        return f"{found['mean']:.4f} ± {found['std']:.4f}" + "\\*" * (key in row.get("differs", ()))
    if isinstance(found, float):
        return f"{found:.3f}" if key.endswith(SHARES) else f"{found:.4f}" + "\\*" * (key in row.get("differs", ()))
    return f"{found:,}" if isinstance(found, int) else str(found)
