"""Use of a trained model on your own pictures: Predictor, ONNX export, search."""
