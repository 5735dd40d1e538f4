"""Speed of training, from one step to whole programs."""
