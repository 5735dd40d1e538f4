"""Sizes and shares that data, nets and metrics have in common."""

IMAGE_SIZE = 28
NUM_CLASSES = 10
# Of images that can be trained on.
MIN_SIDE, MAX_SIDE = 8, 128
DIGITS = tuple("0123456789")
# To train on, and held out: the outlier score is fitted on both.
MIN_FIT_IMAGES = 100
# The share of digits that a threshold keeps, or of outliers that it rejects: where "FPR95" has its 95.
TARGET_RECALL = 0.95
