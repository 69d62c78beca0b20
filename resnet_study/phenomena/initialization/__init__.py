"""Networks before any training: what theory predicts, layer by layer and block by block."""
