"""The ways of logging that are compared, by the names that the table shows."""

PLAIN, ASYNCHRONOUS, DURABLE = "plain http", "asynchronous", "durable"
NO_STORE = "MLflow alone, no store"
NO_LOGGER = "no logger"
