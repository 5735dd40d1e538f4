"""Networks that take raw uint8 images; a custom network from a file; weights and their SHA-256."""
