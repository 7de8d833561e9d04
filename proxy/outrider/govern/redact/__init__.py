"""Redaction: what it finds, what it puts in its place, and how it does so in a text that arrives in pieces."""
