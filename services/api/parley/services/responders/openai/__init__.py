"""
Any server that speaks as OpenAI does, through OpenAI's library.

Slow to import: only where RESPONDER is `openai`, and from `wiring` alone.
"""

from parley.services.responders.openai.faults import Fault
from parley.services.responders.openai.responder import OpenAIResponder

__all__ = ["Fault", "OpenAIResponder"]
