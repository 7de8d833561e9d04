"""Configuration: one YAML file, variables over it, one frozen `Config`, every problem at once."""

from outrider.config.load import load, load_again, load_content, located
from outrider.config.problems import ConfigError, Problem
from outrider.config.schema import Config
from outrider.config.trust import trust

__all__ = ["Config", "ConfigError", "Problem", "load", "load_again", "load_content", "located", "trust"]
