"""The network above the encoder, one lobe a file."""
