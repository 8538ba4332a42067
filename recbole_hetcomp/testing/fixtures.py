"""Fixtures on the dataset `toy`, as methods, so that a test class that inherits them needs no conftest.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import init_seed

from recbole_hetcomp.config import Config
from recbole_hetcomp.config.registry import get_model
from recbole_hetcomp.config.strict import settings_of
from recbole_hetcomp.data.split import Split, make_split
from recbole_hetcomp.testing.toy import apart, toy_settings, write_toy


class OwnFolder:
    """A folder of its own for each test, to which nothing of others comes."""

    @pytest.fixture(autouse=True)
    def _apart(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        with apart(tmp_path, monkeypatch):
            yield


class ToyFixtures(OwnFolder):
    """`settings`, `make_config`, `split` and `make_model`, and a folder of its own for each test."""

    @pytest.fixture
    def settings(self, tmp_path: Path) -> dict[str, Any]:
        """A config_dict for `toy`, whose files are written to the test's own folder."""
        return toy_settings(write_toy(tmp_path / "data"), tmp_path / "saved")

    @pytest.fixture
    def make_config(self, settings: dict[str, Any]) -> Callable[..., Config]:
        """`make_config(model, **settings)`: a Config for `toy`."""
        return lambda model, **given: Config(model, "toy", config_dict={**settings, **given}, arguments=())

    @pytest.fixture
    def split(self, make_config: Callable[..., Config]) -> Split:
        """`toy`, split as every model of the test takes it."""
        return make_split(make_config("BPR"))

    @pytest.fixture
    def make_model(self, make_config: Callable[..., Config], split: Split) -> Callable[..., AbstractRecommender]:
        """`make_model(name, **settings)`: a model in evaluation mode, as its seed initialises it."""

        def make(name: str, **given: object) -> AbstractRecommender:
            config = make_config(name, **given)
            init_seed(config["seed"], config["reproducibility"])
            return get_model(name)(settings_of(config), split.loaders(config).train._dataset).eval()

        return make
