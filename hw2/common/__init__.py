"""Constants, errors, number formats and array types that every other part uses."""
