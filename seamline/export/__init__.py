"""From the weights to ONNX, OpenVINO and INT8: one exporter a family, and the gates that every model has to pass."""
