"""What runs turns."""

from dataclasses import dataclass

from parley.core.settings import Settings
from parley.crud.ports import Blobs, Store, StreamLog
from parley.services.chat import ChatService
from parley.services.files.attachments import AttachmentReader
from parley.services.history import History
from parley.services.responders.base import Responder
from parley.services.turns.acceptance import Acceptance
from parley.services.turns.cancels import CancelWatch
from parley.services.turns.listening import Listener
from parley.services.turns.recording import Recorder
from parley.services.turns.records import TurnRecords
from parley.services.turns.relay import Relay
from parley.services.turns.runner import TurnRunner
from parley.services.turns.service import TurnService
from parley.services.turns.starter import TurnStarter
from parley.services.workers import Worker


@dataclass(frozen=True, kw_only=True)
class TurnServices:
    chat: ChatService
    turns: TurnService
    records: TurnRecords
    relay: Relay
    cancels: CancelWatch


def turn_services(
    settings: Settings,
    *,
    store: Store,
    blobs: Blobs,
    responder: Responder,
    runner: TurnRunner,
    worker: Worker,
    log: StreamLog,
) -> TurnServices:
    """What runs turns in one process, and shows them to readers in any."""
    records = TurnRecords(store, worker)
    relay = Relay(log, records, runner)
    acceptance = Acceptance(
        store, records, runner, worker, _history(settings), wait_seconds=settings.turn_wait_seconds
    )
    starter = TurnStarter(
        worker=worker,
        runner=runner,
        acceptance=acceptance,
        relay=relay,
        listener=_listener(settings, blobs, responder),
        recorder=Recorder(store, at_once=settings.database_pool_size),
    )
    turns = TurnService(
        store, runner, records, relay, retention_seconds=settings.stream_retention_seconds
    )
    return TurnServices(
        chat=ChatService(
            starter,
            turns,
            records,
            models=settings.offered_models,
            wait_seconds=settings.turn_wait_seconds,
        ),
        turns=turns,
        records=records,
        relay=relay,
        cancels=CancelWatch(store, runner, worker),
    )


def _history(settings: Settings) -> History:
    return History(
        system_prompt=settings.system_prompt,
        max_messages=settings.history_max_messages,
        max_characters=settings.history_max_characters,
    )


def _listener(settings: Settings, blobs: Blobs, responder: Responder) -> Listener:
    return Listener(
        AttachmentReader(blobs, responder, accepts_images=settings.model_accepts_images),
        silence_seconds=settings.model_timeout_seconds,
        reply_seconds=settings.model_reply_seconds,
        reply_max_characters=settings.reply_max_characters,
    )
