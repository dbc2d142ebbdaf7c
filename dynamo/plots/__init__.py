"""Pictures of analysis results."""
