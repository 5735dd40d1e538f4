"""A grid as a plan of shared trainings, and the executors that carry it out."""
