"""What a program logs through MLflow itself: provisional IDs, and its calls as they are journaled and sent."""
