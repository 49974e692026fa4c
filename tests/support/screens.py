"""What rich would show."""

import io

from rich.console import Console, RenderableType


def shown(screen: RenderableType, columns: int = 160) -> str:
    """The text of ``screen`` on a terminal of that width."""
    output = io.StringIO()
    Console(file=output, width=columns).print(screen)
    return output.getvalue()
