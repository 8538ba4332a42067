"""The generated parts of pages: between `<!-- generated: NAME -->` and `<!-- end -->`, from records and classes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from methods import losses_list, methods_table, models_table, names_line, shipped
from picture import picture
from records import ROOT, read, value
from tables import measured, table

BLOCK = re.compile(r"(<!-- generated: (?P<name>.+?) -->\n)(?P<text>.*?)(<!-- end -->)", re.DOTALL)
OF_CLASSES: dict[str, Callable[[list[str]], str]] = {
    "methods": methods_table,
    "models": models_table,
    "losses": losses_list,
    "names": names_line,
}
PICTURE = ROOT / "results" / "size.svg"
DEMO_SIZE = 8


def pages() -> list[Path]:
    """The pages that have generated parts."""
    files = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("results/*.md"))]
    return [file for file in files if BLOCK.search(file.read_text(encoding="utf-8"))]


def regenerated(page: str, names: list[str] | None = None) -> str:
    """A page's text with its generated parts made anew.

    Args:
        page: the text
        names: the methods and models to list; None: those that each part lists already
    """

    def block(found: re.Match[str]) -> str:
        listed = [name for name in shipped() if f"`{name}`" in found["text"]]
        return f"{found[1]}{generated(found['name'], listed if names is None else names)}\n{found[4]}"

    return BLOCK.sub(block, page)


def generated(name: str, names: list[str]) -> str:
    """The text of one part: of `names` for the parts made from classes, of a record for `measured DATASET/TABLE`."""
    if name in OF_CLASSES:
        return OF_CLASSES[name](names)
    kind, _, record = name.partition(" ")
    if kind == "measured":
        return measured(record)
    if name == "demo":
        return demo()
    raise ValueError(f"there is no generated part {name!r}; choose {', '.join(OF_CLASSES)}, demo or measured DATASET/TABLE")


def demo() -> str:
    """The table at the end of `make demo`, without its times, and what it says in a sentence."""
    rows = [row for row in read("ml-100k/sizes")["rows"] if row.get("size", DEMO_SIZE) == DEMO_SIZE]
    rows = [{key: content for key, content in row.items() if key not in ("size", "commit")} for row in rows]
    of = {row["role"]: row for row in rows}
    ensemble, student = of["ensemble"], of["student"]
    kept = [f"{100 * value(student, key) / value(ensemble, key):.1f} %" for key in ("recall@50", "ndcg@10")]
    times = ensemble["params"] / student["params"]
    return (
        f"{table({'rows': rows})}\n\nWith {student['params']:,} parameters the student keeps {kept[0]} of the ensemble's "
        f"Recall@50 and {kept[1]} of its\nNDCG@10. The teachers have {times:.0f} times as many parameters."
    )


def write_all() -> list[Path]:
    """Make all pages and the picture anew, for all shipped methods; returns the files that have changed."""
    new = {page: regenerated(page.read_text(encoding="utf-8"), shipped()) for page in pages()}
    new[PICTURE] = picture()
    changed = [page for page, text in new.items() if not page.is_file() or page.read_text(encoding="utf-8") != text]
    for page in changed:
        page.write_text(new[page], encoding="utf-8")
    return changed
