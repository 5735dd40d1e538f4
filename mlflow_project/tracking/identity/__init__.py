"""What a run and a store are known by, so that neither is taken for another."""
