"""What a person would write instead, each the way its own documentation does it; each module is one program.

Arguments: a torchvision folder, the learning rate, the number of epochs. The store is MLFLOW_TRACKING_URI's. Each
logs parameters, losses, accuracies, a confusion matrix and its model, and registers that.
"""
