"""The ways of logging that are compared, by the names that the table shows, and how long a training has one."""

PLAIN, ASYNCHRONOUS, DURABLE = "plain http", "asynchronous", "durable"
NO_STORE = "MLflow alone, no store"
BLOCK = 200
"""Steps of a training, with a logger or without: some seconds, in which what is logged is also sent."""
