"""Owns the checks of the settings against the machine, before anything is loaded."""

import torch

from cache import RedisStore
from model import checkpoint
from service.connections import certificate
from service.settings import Settings, SettingsError


def check(settings: Settings) -> None:
    """
    Raises:
        SettingsError: a setting can not work here; the message names it.
    """
    try:
        checkpoint.check(settings.checkpoint)
    except checkpoint.CheckpointError as error:
        raise SettingsError(f"checkpoint (--checkpoint, MFALCON_CHECKPOINT): {error}") from error
    if "://" in settings.store:
        try:
            RedisStore.from_url(settings.store, ttl_s=settings.state_ttl_s)
        except ValueError as error:
            raise SettingsError(f"store (--store, MFALCON_STORE): {error}") from None
    certificate(settings)
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("device (--device, MFALCON_DEVICE): there is no CUDA device here")
