"""The dataset `clicks`: rows with a rating and features of users and items, from which a context-aware model can learn."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

N_USERS, N_ITEMS, N_ROWS = 40, 30, 1500
AGES, GENRES = ("young", "old", "older"), ("Drama", "Comedy", "Crime", "War")


def write_clicks(folder: Path) -> str:
    """Writes `clicks` in RecBole's atomic format into `folder`/clicks and returns `folder`, RecBole's `data_path`.

    A rating of 4 or 5 is likely where the user's age suits the item's genres.
    """
    home = folder / "clicks"
    home.mkdir(parents=True)
    draw = random.Random(3)
    taste = {(age, genre): draw.gauss(0, 2) for age in AGES for genre in GENRES}
    ages = [draw.choice(AGES) for _ in range(N_USERS)]
    genres = [draw.sample(GENRES, 1 + item % 2) for item in range(N_ITEMS)]
    rows = []
    for time in range(N_ROWS):
        user, item = draw.randrange(N_USERS), draw.randrange(N_ITEMS)
        logit = sum(taste[ages[user], genre] for genre in genres[item])
        rating = draw.choice((4, 5)) if draw.random() < 1 / (1 + math.exp(-logit)) else draw.choice((1, 2, 3))
        rows.append(f"u{user}\ti{item}\t{rating}\t{draw.uniform(0, 60):.1f}\t{time}\n")
    header = "user_id:token\titem_id:token\trating:float\tminutes:float\ttimestamp:float\n"
    (home / "clicks.inter").write_text(header + "".join(rows), encoding="utf-8")
    users = [f"u{user}\t{age}\n" for user, age in enumerate(ages)]
    (home / "clicks.user").write_text("user_id:token\tage:token\n" + "".join(users), encoding="utf-8")
    items = [f"i{item}\t{' '.join(of_item)}\n" for item, of_item in enumerate(genres)]
    (home / "clicks.item").write_text("item_id:token\tgenre:token_seq\n" + "".join(items), encoding="utf-8")
    return str(folder)


def clicks_settings(data_path: str, checkpoint_dir: Path) -> dict[str, Any]:
    """A config_dict for `clicks`: tiny models, a few epochs, two teachers."""
    return {
        "data_path": data_path,
        "checkpoint_dir": str(checkpoint_dir),
        "load_col": {
            "inter": ["user_id", "item_id", "rating", "minutes"],
            "user": ["user_id", "age"],
            "item": ["item_id", "genre"],
        },
        "threshold": {"rating": 4},
        "numerical_features": ["minutes"],
        "normalize_all": True,
        "seed": 11,
        "use_gpu": False,
        "gpu_id": "",
        "show_progress": False,
        "state": "WARNING",
        "epochs": 4,
        "eval_step": 1,
        "stopping_step": 10,
        "train_batch_size": 64,
        "learning_rate": 0.02,
        "weight_decay": 0.0,
        "embedding_size": 4,
        "teachers": ["FM", "DeepFM"],
        "teacher_config": {"all": {"epochs": 3, "embedding_size": 4, "train_batch_size": 64, "learning_rate": 0.02}},
        "without_distillation": False,
    }
