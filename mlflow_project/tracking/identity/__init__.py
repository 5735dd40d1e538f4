"""What a run, a store and an alias are known by: claims, store IDs, and who moved an alias when."""
