"""Networks and trainings as ONNX graphs, which other programs run: onnxruntime, browsers, phones."""
