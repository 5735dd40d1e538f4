"""The commands, the UI and the model server, at size."""
