"""DoRA with float32 adapters under checkpointing, of which no recording is held, says so."""

import pytest

from tests.command import run


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--dora", "--gradient-checkpointing"], True),
        (["--dora", "--no-gradient-checkpointing"], False),
        (["--dora", "--gradient-checkpointing", "--lora-dtype", "bfloat16"], False),
        (["--gradient-checkpointing"], False),
    ],
)
def test_float32_dora_under_checkpointing_is_named_as_not_held(options: list[str], said: bool) -> None:
    result = run("mistralai/Mistral-7B-v0.1", "--offline", "--train", "lora", "--explain", *options)
    assert result.returncode == 0, result.stderr
    assert ("leave a tenth of room" in " ".join(result.stdout.split())) is said
