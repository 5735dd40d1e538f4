"""A registered model's files: written so that they verify, load without pickle and serve by themselves."""
