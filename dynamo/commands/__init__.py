"""The commands of ``dynamo``, one module each; thin: they parse, call the library and print.

They are imported for every call, so none imports torch, scikit-learn or matplotlib at its top.
"""
