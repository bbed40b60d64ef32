"""The cartoon street behind the data set ToyOccluded: pedestrians, cameras, clutter, and pictures made of them."""
