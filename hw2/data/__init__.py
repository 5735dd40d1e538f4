"""Image sets: where their files lie, how they are read and checked, and one uint8 tensor a split."""
