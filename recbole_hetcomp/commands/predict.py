"""`hetcomp predict`: the probability of a click for each row of a file, by a saved context-aware model."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from recbole_hetcomp.config.errors import UserError, shown
from recbole_hetcomp.files.atomic import write
from recbole_hetcomp.files.output import check_output
from recbole_hetcomp.serving.clicks import predict_clicks
from recbole_hetcomp.serving.student import load_student


def predict(checkpoint: str, rows: str, output: str | None = None, *, arguments: Sequence[str] = ()) -> tuple[str, str]:
    """Predict the clicks of a file of rows.

    Args:
        checkpoint: of a context-aware model, saved by this package or by RecBole
        rows: a .csv or .tsv file with a header
        output: a file for the result; None writes none
        arguments: `--key=value` settings that replace saved ones

    Returns:
        (the rows with a column `probability`, as CSV; a sentence about values that the model does not know, or "")

    Raises:
        UserError: the checkpoint is of no such model, the file is malformed, or `output` cannot be written.
    """
    if not Path(rows).is_file():
        raise UserError(f"input: there is no file {shown(Path(rows))}; correct the path")
    if output is not None:
        check_output(Path(output), "clicks.csv", {"checkpoint": str(checkpoint), "input": str(rows)})
    config, model, dataset = load_student(checkpoint, arguments=arguments)
    if config.family != "context":
        raise UserError(
            f"checkpoint: {config.model} ranks items; use `hetcomp recommend`, or name a context-aware model's file"
        )
    found, remark = predict_clicks(model, dataset, Path(rows))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(found)
    if output is not None:
        write(Path(output), text.getvalue())
    return text.getvalue(), remark
