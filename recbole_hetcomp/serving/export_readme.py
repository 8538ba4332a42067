"""The README.md of an exported student, with a script that serves it and needs neither this package nor RecBole."""

from __future__ import annotations

from pathlib import Path

from recbole_hetcomp.serving.exported import Exported
from recbole_hetcomp.serving.formats import FORMATS

COMMON = """import json

import numpy as np
"""
NAMES = """
names = json.load(open("tokens.json", encoding="utf-8"))
row_of = {token: row for row, token in enumerate(names["users"])}
seen = np.load("seen.npz")
"""
HISTORY = """    row = row_of[user]
    known = seen["items"][seen["starts"][row] : seen["starts"][row + 1]]
"""
RESULT = """    return [(names["items"][item], float(score)) for item, score in zip(best, scores) if np.isfinite(score)]
"""
OPENED = {
    "safetensors": 'from safetensors.numpy import load_file\n{names}model = load_file("model.safetensors")\n',
    "npz": '{names}model = dict(np.load("model.npz"))\n',
    "onnx": """import onnxruntime
{names}onnxruntime.set_default_logger_severity(3)
session = onnxruntime.InferenceSession("model.onnx")
""",
    "faiss": 'import faiss\n{names}index, users = faiss.read_index("items.faiss"), np.load("users.npy")\n',
}
ASKED = {
    "onnx": """    most = np.array([min(k, len(names["items"]) - 1)])
    asked = {"user": np.array([row]), "seen": known[None].astype("int64"), "k": most}
    best, scores = (found[0] for found in session.run(["best", "scores"], asked))
""",
    "faiss": """    scores, best = index.search(users[row : row + 1].astype("float32"), min(k + len(known), index.ntotal))
    new = ~np.isin(best[0], known)
    best, scores = best[0][new][:k], scores[0][new][:k]
""",
}
PRODUCTS = """    scores = model["items"].astype("float32") @ model["users"][row].astype("float32"){scale}
    scores[known] = -np.inf
    best = np.argsort(-scores, kind="stable")[:k]
    scores = scores[best]
"""
SCALE = ' * model["items_scale"] * model["users_scale"][row]'


def script(form: str, dtype: str, user: str) -> str:
    """A Python program that prints ten recommendations for `user`; it runs in the folder of the export."""
    asked = ASKED.get(form) or PRODUCTS.format(scale=SCALE if dtype == "int8" else "")
    opened = OPENED[form].format(names=NAMES)
    return f"{COMMON}{opened}\n\ndef recommend(user, k=10):\n{HISTORY}{asked}{RESULT}\n\nprint(recommend({user!r}))\n"


def write_readme(folder: Path, exported: Exported, form: str, dtype: str, name: str) -> None:
    """Write README.md: what the files are, and the script."""
    needs = {
        "safetensors": "numpy and safetensors",
        "npz": "numpy",
        "onnx": "numpy and onnxruntime",
        "faiss": "numpy and faiss",
    }
    sizes = f"{len(exported.user_tokens):,} users and {len(exported.item_tokens):,} items"
    files = " and ".join(f"`{file}`" for file in FORMATS[form].files)
    (folder / "README.md").write_text(
        f"""# {name}

{sizes} as vectors of {exported.items.shape[1]} numbers ({dtype}). A score is an inner product.

- {files}: the vectors; `tokens.json`: the names of their rows, from 0
- `seen.npz`: what users have, not to be recommended again: rows of items, user by user (`items`, `starts`)
- `export.json`: how this export was checked, and what it measured

To serve it, with {needs[form]}:

```python
{script(form, dtype, exported.user_tokens[0])}```
""",
        encoding="utf-8",
    )
