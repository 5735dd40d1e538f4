"""A search for the best configuration within a budget: Optuna proposes, successive halving decides who goes on."""
