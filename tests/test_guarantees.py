"""docs/guarantees.md promises nothing without a test."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| promise |")]


def test_the_page_has_promises() -> None:
    assert len(ROWS) > 20


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:60])
def test_each_promise_names_a_test_that_exists(row: str) -> None:
    promise, named = (cell.strip() for cell in row.strip("|").rsplit("|", 1))
    assert promise.endswith(".")
    found = re.fullmatch(r"`(tests/[\w/]+\.py)::(\w+)`", named)
    assert found, f"{named} is no test"
    path, name = found.groups()
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert name.startswith("test_")
