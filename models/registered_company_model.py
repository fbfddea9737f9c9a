"""What MLflow stores as the company model's code: it loads the artifacts and scores a pandas frame of features.

The nightly job scores a Spark frame with the same artifacts; this serves whoever opens a registered version with
``mlflow.pyfunc.load_model``, in an environment that has this project on its path.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext


class RegisteredCompanyModel(PythonModel):
    """A company model behind MLflow's own interface."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the model's parts."""
        from models.company_model import CompanyModel

        self._model = CompanyModel.load(Path(context.artifacts["company_model"]))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """The probabilities of distress within 1, 2 and 3 years, one row per row of features, in their order; nulls are allowed."""
        from models.company_model import PROBABILITIES

        matrix = model_input[list(self._model.features)].to_numpy(dtype="float64")
        return pd.DataFrame(self._model.probabilities(matrix), columns=list(PROBABILITIES), index=model_input.index)


set_model(RegisteredCompanyModel())
