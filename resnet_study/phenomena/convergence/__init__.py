"""How fast networks of different depth learn."""
