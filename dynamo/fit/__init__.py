"""What training leaves, and what is made of it at once: fidelity, new models on the map, fits by many processes."""
