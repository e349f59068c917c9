"""Engines that run model files, one a module: raw outputs for canvases, whatever the model's family."""
