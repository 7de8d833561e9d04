"""The compiled hot path: bytes only. Nothing here imports outrider, knows a provider's rules, or logs."""
