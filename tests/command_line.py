"""The command line as tests call it: run a command, and look at how it ends."""

from __future__ import annotations

from click.testing import CliRunner, Result

from cnncodes.cli.main import main


def run(*words: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def failed(*words: object) -> str:
    """Run a command that fails, and return its one line."""
    result = run(*words, code=1)
    lines = result.stderr.strip().splitlines()
    assert result.stdout == ""
    assert lines[-1].startswith("error: ")
    assert "Traceback" not in result.stderr
    return lines[-1]
