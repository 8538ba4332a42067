"""The settings as a method reads them: a name that no yaml file declares is an error, where RecBole says None."""

from __future__ import annotations

from typing import Any

from recbole_hetcomp.config.config import Config
from recbole_hetcomp.config.errors import UserError, close_matches
from recbole_hetcomp.config.recbole import READ_BY_RECBOLE
from recbole_hetcomp.config.registry import is_distilled


class StrictConfig(Config):
    """A view of a Config: what is set in either is set in both.

    RecBole's models ask for settings that they may not have, and live with None; they are given the plain Config.
    """

    def __init__(self, config: Config) -> None:
        self.__dict__.update(config.__dict__)

    @property
    def plain(self) -> Config:
        """The Config that this is a view of, to which a name that nobody declares is None."""
        config = Config.__new__(Config)
        config.__dict__.update(self.__dict__)
        return config

    def __getitem__(self, key: str) -> Any:
        """The value of a setting.

        Raises:
            UserError: no yaml file declares it, neither ours nor RecBole's, and RecBole does not have it built in.
        """
        if key not in self.final_config_dict and key not in self._built_in():
            near = close_matches(key, self.final_config_dict)
            raise UserError(
                f"{key}: {self.model} reads this setting, and no yaml file declares it{near}; "
                f"give it a line `{key}: ...   # (int >= 1) its meaning` in {self.model}.yaml"
            )
        return super().__getitem__(key)

    def _built_in(self) -> set[str]:
        return READ_BY_RECBOLE | {key for keys in self.parameters.values() for key in keys}


def settings_of(config: Config) -> Config:
    """What the run's model is made with: a method reads declared settings alone, RecBole's models as they like."""
    return StrictConfig(config) if is_distilled(config.model_class) else config
