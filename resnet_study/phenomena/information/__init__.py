"""Whether layers pass on what tells images apart, and what tells right from wrong."""
