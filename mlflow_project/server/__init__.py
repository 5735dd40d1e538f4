"""The tracking server for one person or a team, its store, and its backup."""
