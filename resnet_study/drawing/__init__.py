"""The engine of figures: what a figure is, how all look, writing them. Knows no phenomenon."""
