"""Secrets: the type that hides them, where they come from, and how they are put on the wire.

Nothing is imported here, so that `outrider.secrets.secret` costs a configuration nothing else.
"""
