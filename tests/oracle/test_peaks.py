"""The recorded peaks of training steps are what `MemTracker` says: a sample, or with HFMEM_ALL_PEAKS=1 all of them."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

pytest.importorskip("torch")

from tests.oracle.peak_cases import CASES, MODELS, shapes, shortened

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]

SAMPLE = MODELS if os.environ.get("HFMEM_ALL_PEAKS") else (MODELS[0], MODELS[3], MODELS[7], MODELS[8])


@pytest.mark.parametrize(("method", "checkpointing"), CASES)
@pytest.mark.parametrize("name", SAMPLE)
def test_peak(name: str, method: str, checkpointing: bool) -> None:
    if method == "lora":
        pytest.importorskip("peft")
    from tests.oracle.peaks import peak
    from tests.oracle.record_peaks import RECORDING

    recorded: dict[str, Any] = json.loads(RECORDING.read_text(encoding="utf-8"))["bytes"][name]
    config = shortened(name)
    for batch, seq in shapes(config) if os.environ.get("HFMEM_ALL_PEAKS") else shapes(config)[-1:]:
        case = f"{method} {'checkpointing' if checkpointing else 'saved'} {batch}x{seq}"
        measured = peak(config, batch=batch, seq=seq, method=method, checkpointing=checkpointing)
        assert measured == pytest.approx(recorded[case], rel=0.001)
