"""The append-only journal of one run, its files, its lock and the state folder that holds them."""
