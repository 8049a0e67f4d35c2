"""How to shrink any `nn.Module` or ONNX graph. Knows neither the advisor nor its tasks."""
