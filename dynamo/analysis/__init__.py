"""Questions one can ask of a map: one file each, a function that answers with an attrs result."""
