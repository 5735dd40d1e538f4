"""A configuration, its identity, and its training as a stream of epochs that can be saved and resumed."""
