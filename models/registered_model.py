"""What MLflow stores as the model's code: it loads the artifacts and scores a pandas frame of features.

The nightly job does not come this way (it loads the same artifacts and scores a Spark frame); this serves whoever
opens a registered version with ``mlflow.pyfunc.load_model``, in an environment that has this project on its path.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext


class RegisteredCreditModel(PythonModel):
    """A credit model behind MLflow's own interface."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the model's parts; Spark's formats need a session, which is opened here where none runs."""
        from pyspark.sql import SparkSession

        from conf.settings import load_settings
        from models.credit_model import CreditModel

        self._settings = load_settings()
        self._spark = SparkSession.builder.getOrCreate()
        self._model = CreditModel.load(self._spark, Path(context.artifacts["credit_model"]))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """prob_default, score_points and risk_group, one row per row of features, in their order; nulls are allowed."""
        numbered = model_input[list(self._model.features)].astype("float64").assign(_row=range(len(model_input)))
        rows = [tuple(None if value != value else value for value in row) for row in numbered.itertuples(index=False)]
        features = ", ".join(f"{name} double" for name in self._model.features)
        frame = self._spark.createDataFrame(rows, f"{features}, _row bigint")
        scored = self._model.score(frame, self._settings.scores)
        return scored.orderBy("_row").select("prob_default", "score_points", "risk_group").toPandas()


set_model(RegisteredCreditModel())
