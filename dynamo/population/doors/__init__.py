"""Populations from files that others have written: one file for each kind of source, see ``dynamo import``."""
