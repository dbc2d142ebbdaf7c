"""The version of dynamo-embedding."""

__version__ = "0.1.0"
