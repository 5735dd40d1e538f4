"""How often the verdicts of a comparison are right."""
