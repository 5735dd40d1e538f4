"""One training step on a batch, computed by autograd or by compiled kernels of its own."""
