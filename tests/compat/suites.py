"""The suites as data: a name, what is tried, and the command that tries it."""

from dataclasses import dataclass
from typing import Final, Literal

from tests.compat.environments import EXAMPLES, HERE, Environments

PYTHON_TESTS: Final = HERE / "python"


@dataclass(frozen=True)
class Suite:
    """One row of the report. ``tests`` are test files in the folder of its ``language``."""

    name: str
    title: str
    language: Literal["python", "node"]
    tests: tuple[str, ...]

    def command(self, environments: Environments) -> tuple[str, ...]:
        """The command that runs it; it exits with 0 when every test passed."""
        if self.language == "node":
            return (str(environments.node), "--test", "--test-reporter=spec", "--test-concurrency=1", *self.tests)
        # The configuration and the conftest of the project are not for this environment.
        apart = (
            "-c",
            str(PYTHON_TESTS / "pytest.ini"),
            "--rootdir",
            str(PYTHON_TESTS),
            "--confcutdir",
            str(PYTHON_TESTS),
        )
        return (str(environments.python), "-m", "pytest", *apart, *(str(PYTHON_TESTS / test) for test in self.tests))


SUITES: Final = (
    Suite(
        "openai-python",
        "OpenAI's SDK for Python",
        "python",
        (
            "test_sdk_chat.py",
            "test_sdk_tools.py",
            "test_sdk_stored_completions.py",
            "test_sdk_responses.py",
            "test_sdk_conversations.py",
            "test_sdk_errors.py",
            "test_sdk_models_and_moderations.py",
        ),
    ),
    Suite(
        "openai-node",
        "OpenAI's SDK for Node.js",
        "node",
        ("openai_chat.test.ts", "openai_responses.test.ts", "openai_resources.test.ts"),
    ),
    Suite("langchain", "LangChain's standard tests of chat models", "python", ("test_langchain_standard.py",)),
    Suite("ai-sdk", "Vercel's AI SDK", "node", ("ai_sdk.test.ts",)),
    Suite("examples", "The examples of docs/api.md in TypeScript", "node", (f"{EXAMPLES}/*.ts",)),
)
