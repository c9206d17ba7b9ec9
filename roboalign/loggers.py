"""Live training curves by Lightning's loggers, beside the curves under `plots/` that DVC tracks.

`hardware.loggers` names them; `execute` passes them here, and the training loop of rank 0 writes to them at every log
step. They are no outputs of a stage: what they write lies under `logs/`, or where the environment variables of W&B
(`WANDB_MODE`, `WANDB_PROJECT`) and MLflow (`MLFLOW_TRACKING_URI`) point to. A resumed training continues its run.
"""

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never

from roboalign.errors import require_extra
from roboalign.hardware.spec import LoggerName
from roboalign.io import write_json

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

LOGS = Path("logs")
"""The git-ignored folder of local logs."""
PROJECT = "roboalign"
"""Project at W&B and experiment at MLflow."""
STATE = "loggers.json"
"""File in a training's scratch folder that names its runs, so that a resumed training continues them."""

_names: list[LoggerName] = []
"""The loggers of this process; empty until `set_loggers`."""


def set_loggers(names: Sequence[LoggerName]) -> None:
    """Set the loggers of the trainings of this process."""
    _names[:] = names


class LiveLog:
    """The loggers of one training.

    Args:
        label: Name of the training.
        scratch: Folder of its scratch checkpoint.
        rows: The curve so far, if the training resumes: rows with `step`.
        parameters: The spec of the training, shown as hyperparameters.

    Raises StageError if the package of a logger is not installed.
    """

    def __init__(
        self, label: str, scratch: Path, rows: Sequence[Mapping[str, float]], parameters: Mapping[str, Any]
    ) -> None:
        self.loggers: list[Logger] = []
        if not _names:
            return
        state = scratch / STATE
        resumed = bool(rows) and state.exists()
        runs: dict[str, str] = json.loads(state.read_text(encoding="utf-8")) if resumed else {}
        runs.setdefault("version", time.strftime("%Y%m%d-%H%M%S"))
        for name in _names:
            with require_extra("loggers", f"hardware.loggers {name}"):
                logger = _build_logger(name, label, runs, int(rows[-1]["step"]) if resumed else 0)
                if not resumed:
                    logger.log_hyperparams(dict(parameters))
            self.loggers.append(logger)
            if name == "mlflow":
                runs["mlflow"] = str(logger.version)
            if name == "csv":  # its file is written anew, so that it gets the rows before the interruption too
                for row in rows:
                    logger.log_metrics({key: value for key, value in row.items() if key != "step"}, int(row["step"]))
        scratch.mkdir(parents=True, exist_ok=True)
        write_json(state, runs)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values of a step to every logger, and flush them."""
        for logger in self.loggers:
            logger.log_metrics(dict(values), step)
            logger.save()

    def close(self, status: str) -> None:
        """End the runs with `success` or `failed`."""
        for logger in self.loggers:
            logger.finalize(status)


def _build_logger(name: LoggerName, label: str, runs: Mapping[str, str], start: int) -> "Logger":
    """Lightning's logger of a training; `start` is the step at which a resumed run continues."""
    # Imported here: it takes seconds, and every stage imports this module.
    from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger

    version = runs["version"]
    LOGS.mkdir(exist_ok=True)
    match name:
        case "csv":
            # Lightning would warn that it replaces the file, whose rows `LiveLog` writes again.
            (LOGS / label / version / "metrics.csv").unlink(missing_ok=True)
            (LOGS / label / version / "hparams.yaml").unlink(missing_ok=True)
            return CSVLogger(LOGS, name=label, version=version, flush_logs_every_n_steps=1)
        case "tensorboard":
            return TensorBoardLogger(LOGS, name=label, version=version, purge_step=start + 1 if start else None)
        case "wandb":
            return WandbLogger(
                name=f"{label}-{version}", id=f"{label.replace('@', '-')}-{version}", save_dir=LOGS, project=PROJECT,
                resume="allow",
            )  # fmt: skip
        case "mlflow":
            return MLFlowLogger(
                experiment_name=PROJECT, run_name=f"{label}-{version}", run_id=runs.get("mlflow"),
                tracking_uri=os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{LOGS / 'mlflow.db'}"),
            )  # fmt: skip
        case _:
            assert_never(name)
