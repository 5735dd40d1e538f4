"""What the project takes, measured beside what a person would use instead, on the same machine at the same time."""
