"""The experiment: images, model, training, evaluation and figures. Knows nothing of MLflow and prints nothing."""
