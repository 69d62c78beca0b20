"""Layers whose weights the first steps inflate, and when they move again."""
