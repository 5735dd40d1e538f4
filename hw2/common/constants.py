"""Sizes that data, nets and measures share."""

IMAGE_SIZE = 28
NUM_CLASSES = 10
DIGITS = tuple("0123456789")
# To train on, and held out: the outlier score is fitted on both.
MIN_FIT_IMAGES = 100
