"""A trained model on pictures of your own: Predictor, ONNX export, search."""
