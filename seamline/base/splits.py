"""The three splits of a dataset, by name and in their order: the one list of them."""

SPLITS = ("train", "val", "test")
MEASURED_SPLITS = SPLITS[1:]  # those that a model is measured on
