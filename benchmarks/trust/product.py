"""Files of a run, read as the commands read them: into a model, and into a training that goes on."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from runs import SAVED

from recbole_hetcomp.config import Config
from recbole_hetcomp.data.fitting import fit_to_data
from recbole_hetcomp.data.split import Split, make_split
from recbole_hetcomp.teacher_training.configs import teacher_config
from recbole_hetcomp.teacher_training.scheduling import build_pool
from recbole_hetcomp.teacher_training.training import load_model
from recbole_hetcomp.trainer.building import build_model
from recbole_hetcomp.trainer.checkpoint import load_checkpoint, load_into
from recbole_hetcomp.trainer.choice import get_trainer

Read = Callable[[Path], Any]


class Reader:
    """Reads the files of a run of HetComp.

    Args:
        flags: of the command
        home: the folder in which it was run; its teachers are there
    """

    def __init__(self, flags: Sequence[str], home: Path) -> None:
        settings = [flag for flag in flags[2:] if not flag.startswith("--checkpoint_dir=")]
        self.config = Config("HetCompStudent", "toy", None, {"checkpoint_dir": str(home / SAVED)}, settings)
        self.split: Split = make_split(self.config)
        fit_to_data(self.config, self.split)

    def student(self) -> Read:
        """As `hetcomp recommend` gives a checkpoint to its model."""
        model = build_model(self.config, self.split.train)

        def read(path: Path) -> dict[str, Any]:
            checkpoint = load_checkpoint(path)
            load_into(model, checkpoint, path)
            return {**checkpoint, "weights": copy.deepcopy(model.state_dict())}

        return read

    def kept_model(self, name: str) -> Read:
        """As a run makes a teacher that was trained before."""
        own = teacher_config(self.config, name)
        return lambda path: load_model(own, self.split, path).state_dict()

    def progress(self, best: Path) -> Read:
        """As a run that is started again reads it; the best student so far goes into the file `best`."""
        loaders = self.split.loaders(self.config)
        model = build_model(self.config, loaders.train._dataset)
        model.learn_from(build_pool(self.config, self.split, needs=model.needs))
        trainer = get_trainer(self.config.model_class)(self.config, model)
        trainer.saved_model_file = str(best)

        def read(path: Path) -> dict[str, Any]:
            trainer.resume(path)
            return {**trainer.resumed, "weights": copy.deepcopy(model.state_dict())}

        return read
