"""How operators act."""

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from producers.redrive.summary import RedriveSettings


class OperationsSettings(BaseModel):
    """Who operates from this environment, and the limits of what they do."""

    model_config = ConfigDict(frozen=True)

    operator_key: SecretStr | None = Field(
        default=None, description="An API key of a user with the role operator or admin: who did it, in the audit."
    )
    operators_reveal: bool = Field(
        default=False, description="Let the role operator see the content of dead letters; otherwise only admin may."
    )
    letters_max: int = Field(default=10_000, ge=1, description="Dead letters that one command acts on.")
    redrive: RedriveSettings = RedriveSettings()
