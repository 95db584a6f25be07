"""A model behind HTTP and websockets: ``qieemo serve``."""
