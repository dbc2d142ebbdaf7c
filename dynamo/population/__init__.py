"""Base models: in memory and on disk, their weights, trajectories and scores."""
