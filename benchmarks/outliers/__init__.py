"""How well outliers are detected, and how long a test takes."""
