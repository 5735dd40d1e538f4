"""One pass of a model over an image set: logits, metrics, calibration, predictions on disk."""
