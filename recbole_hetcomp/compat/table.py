"""The repairs of RecBole, one a row: what it is about, whether it is needed, and how it is made."""

from __future__ import annotations

import numpy as np
import scipy.sparse
import torch
from recbole.config import Config, configurator
from recbole.data import utils as data_utils
from recbole.data.dataset import dataset
from recbole.evaluator.collector import Collector
from recbole.model.context_aware_recommender import fwfm, kd_dagfm
from recbole.model.general_recommender import dgcf, ldiffrec
from recbole.trainer import trainer

from recbole_hetcomp.compat import closing, entrances, kd_dagfm_phases, pandas_features, pretrained, repairs
from recbole_hetcomp.compat.atomic_files import read_atomic_file, read_files_as_written
from recbole_hetcomp.compat.repeats import removing_what_is_repeated
from recbole_hetcomp.compat.replacing import Overlay, Repair, is_stock, replaced, wrapped
from recbole_hetcomp.compat.speed import FASTER
from recbole_hetcomp.compat.whole_files import write_checkpoints_at_once

REPAIRS = (
    Repair(
        "ray",
        "RecBole#1820, #2215",
        "ray is not loaded: RecBole needs it for one call, and ray 2.6.3 fails to import on numpy>=2 or setuptools>=81",
        repairs.quick_start_would_import_ray,
        repairs.import_quick_start_without_ray,
    ),
    Repair(
        "anomaly_detection",
        "not reported",
        "any: importing SINE leaves autograd's anomaly detection on, which slows every training down, of any model",
        repairs.sine_detects_anomalies,
        repairs.import_sine_quietly,
        replaces_recbole=False,
    ),
    Repair(
        "numpy_names",
        "RecBole#2215, PR #2187",
        "numpy>=2: Config() reads numpy.float_, which is gone",
        lambda: "float_" not in vars(np) and is_stock(Config.compatibility_settings),
        lambda: replaced(Config, compatibility_settings=repairs.set_missing_numpy_names),
    ),
    Repair(
        "dok_update",
        "RecBole#2034, #2090, #2185",
        "scipy>=1.13: the graph models call dok_matrix._update, which is gone",
        lambda: not hasattr(scipy.sparse.dok_matrix, "_update"),
        lambda: replaced(scipy.sparse.dok_matrix, _update=repairs.update_entries),
        replaces_recbole=False,
    ),
    Repair(
        "evaluate",
        "RecBole#2212, #2215",
        "any torch: the best model cannot be read since 2.6, and reading it could run code before",
        lambda: is_stock(trainer.Trainer.evaluate),
        wrapped(trainer.Trainer, "evaluate", repairs.restoring),
    ),
    Repair(
        "resume",
        "RecBole#2212, #2215",
        "any torch, as above, when training is resumed",
        lambda: is_stock(trainer.Trainer.resume_checkpoint),
        lambda: replaced(trainer.Trainer, resume_checkpoint=repairs.resume_checkpoint),
    ),
    Repair(
        "pretrained",
        "RecBole#2212, PR #2219",
        "any torch, as above, for NeuMF, ConvNCF, NAIS, RaCT, KD_DAGFM and S3Rec with a pretrained path",
        pretrained.files_are_unpickled,
        pretrained.read_pretrained_as_data,
    ),
    Repair(
        "load_data_and_model",
        "RecBole#2212, #2215",
        "any torch, as above, for RecBole's function of this name",
        lambda: repairs.quick_start_has_its_own("load_data_and_model"),
        closing.load_saved_models_as_data,
    ),
    Repair(
        "saved_data",
        "not reported",
        "any: datasets and loaders that lie in checkpoint_dir are unpickled, which can run code",
        lambda: not isinstance(data_utils.pickle, Overlay),
        lambda: replaced(data_utils, pickle=Overlay(data_utils.pickle, load=closing.refuse_saved_data)),
    ),
    Repair(
        "item_embeddings",
        "not reported",
        "any: LDiffRec unpickles objects of item_emb.npy, which can run code",
        lambda: ldiffrec.np is np,
        lambda: replaced(ldiffrec, np=Overlay(np, load=closing.item_embeddings)),
    ),
    Repair(
        "teacher_network",
        "not reported",
        "any: KD_DAGFM runs its setting `teacher` as code",
        lambda: "eval" not in vars(kd_dagfm),
        lambda: replaced(kd_dagfm, eval=closing.teacher_network),
    ),
    Repair(
        "kd_dagfm_device",
        "not reported",
        "any: KD_DAGFM keeps a matrix on a GPU wherever there is one, also with use_gpu: False",
        lambda: is_stock(kd_dagfm.DAGFM.__init__),
        wrapped(kd_dagfm.DAGFM, "__init__", kd_dagfm_phases.placing_the_graph_with_the_model),
    ),
    Repair(
        "kd_dagfm_teacher",
        "not reported",
        "any: KD_DAGFM saves and counts its teacher with the student, computes its gradients, and takes any phase",
        kd_dagfm_phases.keeps_its_teacher,
        kd_dagfm_phases.keep_the_teacher_out,
    ),
    Repair(
        "settings",
        "not reported",
        "any: strings of the command line, of a config_dict and of a search space are run as code",
        lambda: "eval" not in vars(configurator),
        closing.read_settings_as_literals,
    ),
    Repair(
        "yaml_loader",
        "not reported",
        "any: yaml files can name functions, and with PyYAML below 5.4 call them",
        lambda: is_stock(Config._build_yaml_loader),
        wrapped(Config, "_build_yaml_loader", closing.building_a_safe_loader),
    ),
    Repair(
        "fill_nan",
        "not reported",
        "pandas>=2.2 warns and pandas>=3 silently keeps NaN, also in the padding row of every feature",
        lambda: is_stock(dataset.Dataset._fill_nan) and pandas_features.chained_fillna_is_unsafe(),
        lambda: replaced(dataset.Dataset, _fill_nan=pandas_features.fill_nan),
    ),
    Repair(
        "pandas_sequences",
        "not reported",
        "pandas>=3: columns of number sequences are misread; they are refused",
        lambda: pandas_features.sequences_are_miscounted() and is_stock(dataset.Dataset._load_feat),
        wrapped(dataset.Dataset, "_load_feat", pandas_features.refusing_float_sequences),
    ),
    Repair(
        "files_as_written",
        "not reported",
        "any: rows of the tokens NA and None are dropped, and a token that begins with a quotation mark swallows rows",
        lambda: dataset.pd.read_csv is not read_atomic_file,
        read_files_as_written,
    ),
    Repair(
        "download_barrier",
        "not reported",
        "any: a dataset's first download in a single process ends in an error of torch.distributed",
        lambda: dataset.torch is torch,
        repairs.wait_for_other_processes_alone,
    ),
    Repair(
        "repeats",
        "not reported",
        "any: rm_dup_inter sorts the rows by time, and so changes ids and split, though no interaction is repeated",
        lambda: is_stock(dataset.Dataset._remove_duplication),
        wrapped(dataset.Dataset, "_remove_duplication", removing_what_is_repeated),
    ),
    Repair(
        "collector",
        "RecBole#2191",
        "any: ItemCoverage, GiniIndex, AveragePopularity and TailPercentage end in an AttributeError",
        repairs.collector_stumbles,
        wrapped(Collector, "get_data_struct", repairs.setting_plain_values_aside),
    ),
    Repair(
        "dgcf_sample",
        "not reported",
        "any: DGCF draws more users or items than there are when an epoch has few batches",
        lambda: is_stock(dgcf.sample_cor_samples),
        wrapped(dgcf, "sample_cor_samples", repairs.sampling_no_more_than_there_are),
    ),
    Repair(
        "fwfm_weight",
        "not reported",
        "any: FwFM's weights of pairs of fields are no parameter: not trained, not saved, and drawn anew where it is read",
        lambda: is_stock(fwfm.FwFM.__init__),
        wrapped(fwfm.FwFM, "__init__", repairs.learning_the_weights_of_pairs),
    ),
    Repair(
        "amp",
        "not reported",
        "torch>=2.4: RecBole calls the deprecated torch.cuda.amp",
        lambda: hasattr(torch.amp, "GradScaler") and trainer.amp is torch.cuda.amp,
        repairs.todays_amp,
    ),
    Repair(
        "checkpoints",
        "not reported",
        "any: a trainer that is stopped while it saves, pretrained models included, leaves half a file under the name",
        lambda: trainer.torch is torch,
        write_checkpoints_at_once,
    ),
    Repair(
        "our_models",
        "none: it is this package's",
        "any: RecBole's run_recbole, run, objective_function and load_data_and_model know no model of this package",
        lambda: repairs.quick_start_has_its_own("run_recbole"),
        entrances.take_our_models,
    ),
    *FASTER,
)
