"""The dynamics of recurrent networks over the map: fixed points, attractors, word scores, conjugacy."""
