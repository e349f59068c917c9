"""Modules of the rooms without torch that are torch's own: an R-CNN's layers, imported where a best.pt is opened alone.

Everything else of these rooms is imported without torch by tests/inference/test_process.py, which shows that nothing
imports these at its top.
"""

NEEDS_TORCH = tuple(
    f"seamline/models/{name}.py"
    for name in ("lite0", "rcnn_backbones", "rcnn_inference", "rcnn_network", "rcnn_weights")
)
