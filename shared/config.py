"""Settings that several exercises read from the environment."""

from typing import Literal

from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """The environment, typed. Read when it is made, never at import.

    A URL that is None means that nobody configured that service: see shared.services for what happens then.
    """

    model_config = SettingsConfigDict(env_ignore_empty=True, hide_input_in_errors=True)

    environment: Literal["development", "testing", "production"] = "development"
    database_url: str | None = None
    redis_url: str | None = None
    s3_endpoint_url: str | None = None
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
