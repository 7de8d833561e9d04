"""A provider emulator for the demo, tests and benches: it refuses what the providers refuse and keeps a journal."""

from .behaviour import Behaviour
from .journal import Journal, Journalled
from .server import MockProvider

__all__ = ["Behaviour", "Journal", "Journalled", "MockProvider"]
