"""Gradients through the layers, at initialisation and in training."""
