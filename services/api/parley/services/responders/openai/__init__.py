"""
Any server that speaks as OpenAI does, through OpenAI's library.

Slow to import: only where RESPONDER is `openai`, and from `wiring` alone.
"""

from parley.services.responders.openai.responder import OpenAIResponder

__all__ = ["OpenAIResponder"]
