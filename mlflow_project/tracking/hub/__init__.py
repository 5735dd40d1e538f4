"""The journals of this process for one store: opened, uploaded in the background, and released when it ends."""
