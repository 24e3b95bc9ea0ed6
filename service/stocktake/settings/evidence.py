"""The part of the configuration that says where the heads of the evidence chain are published."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pydantic import Field, field_validator

from stocktake.settings.azure import AzureIdentitySettings, Https
from stocktake.settings.fields import Model
from stocktake.settings.timing import Duration


class HeadContainerSettings(AzureIdentitySettings):
    """A container with an immutability policy, and who we are to it. It is no watched source: this identity needs to
    add blobs there, and nothing else anywhere."""

    address: Https = Field(
        description="Address of the container. Each head is a blob of its own, which is never written twice.",
        examples=["https://account.blob.core.windows.net/stocktake-heads"],
    )

    @field_validator("address")
    @classmethod
    def _alone(cls, value: str) -> str:
        if "?" in value or "#" in value:
            raise ValueError("has a query: no signature is used here. Give the address of the container alone")
        if not value.rstrip("/").removeprefix("https://").partition("/")[2]:
            raise ValueError("names no container. Write https://ACCOUNT.blob.core.windows.net/CONTAINER")
        return value.rstrip("/")


class EvidenceSettings(Model):
    """Where the head of the chain is published, that whoever administers the database cannot rewrite it."""

    file: Path | None = Field(
        None,
        description="A file to which each head is appended, a line a time: on another machine's disk, or append-only.",
        examples=["/mnt/audit/stocktake-heads.jsonl"],
    )
    container: HeadContainerSettings | None = Field(
        None, description="A container of Azure Blob Storage with an immutability policy."
    )
    every: Duration = Field(timedelta(hours=24), description="How often a head is published. Nothing is, by default.")

    @field_validator("file")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value if value is None else value.expanduser().absolute()

    @property
    def published(self) -> bool:
        """Whether heads are published at all."""
        return self.file is not None or self.container is not None
