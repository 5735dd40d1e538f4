"""Files of images that aren't IDX, read as arrays: class folders, `.npz`, torchvision's archives; and their checks."""
