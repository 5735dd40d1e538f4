"""`mlflow.sklearn.autolog`: a fit that opens its own run, then a grid search with child runs."""

import mlflow
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.tree import DecisionTreeClassifier

chance = np.random.default_rng(0)
features = chance.normal(size=(120, 4))
labels = (features.sum(axis=1) > 0).astype(int)

mlflow.set_experiment("sklearn")
mlflow.sklearn.autolog(max_tuning_runs=3, registered_model_name="sklearn-autologged", log_input_examples=True)
LogisticRegression(C=0.5).fit(features, labels)
mlflow.sklearn.autolog(max_tuning_runs=3, log_models=False)
with mlflow.start_run(run_name="search"):
    search = GridSearchCV(DecisionTreeClassifier(random_state=0), {"max_depth": [1, 2, 3]}, cv=2)
    search.fit(features, labels)
    search.score(features, labels)
