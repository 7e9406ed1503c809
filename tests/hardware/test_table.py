"""The table of accelerators: rows that make sense, spellings that find them, what a machine without any answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hfmem.errors import InvalidScenarioError
from hfmem.hardware import detect as detection
from hfmem.hardware.table import accelerators, find, instances
from hfmem.units import GIB


def test_there_are_enough_of_every_maker() -> None:
    rows = accelerators()
    assert len(rows) >= 80
    assert {row.vendor for row in rows} >= {"nvidia", "amd", "intel", "apple", "google", "aws"}
    assert {row.kind for row in rows} == {"discrete", "unified"}


def test_the_readme_counts_them() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert f"{len(accelerators())} accelerators" in readme


@pytest.mark.parametrize("row", accelerators(), ids=lambda row: row.name)
def test_a_row_has_a_source_and_its_name_finds_it(row) -> None:  # type: ignore[no-untyped-def]
    assert row.source
    assert GIB < row.memory < 512 * GIB
    assert row.basis in ("reading", "nominal")
    for spelling in (row.name, *row.aliases):
        assert find(spelling).accelerator == row


@pytest.mark.parametrize("row", instances(), ids=lambda row: row.name)
def test_an_instance_finds_its_accelerators(row) -> None:  # type: ignore[no-untyped-def]
    found = find(row.name)
    assert (found.accelerator.name, found.count, found.instance) == (row.gpu, row.count, row.name)
    assert row.source


@pytest.mark.parametrize(
    ("spelling", "name", "count"),
    [
        ("H100", "H100 80GB", None),
        ("nvidia h100", "H100 80GB", None),
        ("NVIDIA GeForce RTX 4090", "RTX 4090", None),
        ("rtx4090", "RTX 4090", None),
        ("4x L40S", "L40S", 4),
        ("L40S:4", "L40S", 4),
        ("2 × A100 40GB", "A100 40GB", 2),
        ("p5.48xlarge", "H100 80GB", 8),
        ("a2-ultragpu-2g", "A100 80GB", 2),
        ("standard_nd96isr_h200_v5", "H200", 8),
        ("a10g-largex4", "A10G", 4),
        ("nvidia-l4-x1", "L4", 1),
    ],
)
def test_spellings(spelling: str, name: str, count: int | None) -> None:
    found = find(spelling)
    assert (found.accelerator.name, found.count) == (name, count)


@pytest.mark.parametrize("spelling", ["H10", "", "x", "0x H100 and more", "RTX 9999"])
def test_unknown_names_are_refused_with_neighbours(spelling: str) -> None:
    with pytest.raises(InvalidScenarioError, match="--list-gpus"):
        find(spelling)


def test_an_80_gb_card_has_less() -> None:
    """79.19 GiB in the start-up logs of H100 servers; a 24 GB RTX 4090 reports 23.64."""
    assert find("H100").accelerator.memory / GIB == pytest.approx(79.19, abs=0.01)
    assert find("RTX 4090").accelerator.memory / GIB == pytest.approx(23.64, abs=0.01)


def test_apple_has_the_wired_limit() -> None:
    """recommendedMaxWorkingSetSize of 16, 32 and 64 GB machines, in MiB."""
    assert [find(name).accelerator.memory // 2**20 for name in ("M1 16GB", "M1 Max 32GB", "M1 Max 64GB")] == [
        10922,
        21845,
        49152,
    ]


def test_sysfs_names_amd_cards(tmp_path: Path) -> None:
    for index, memory in enumerate((17_163_091_968, 536_870_912)):  # a card, and a display adapter's 512 MiB
        device = tmp_path / f"card{index}" / "device"
        device.mkdir(parents=True)
        (device / "mem_info_vram_total").write_text(f"{memory}\n")
    (found,) = detection._amd(tmp_path)
    assert (found.vendor, found.memory, found.basis) == ("amd", 17_163_091_968, "detected")


def test_nothing_found_is_an_answer() -> None:
    assert detection._amd(Path("/nowhere")) == []
    assert isinstance(detection.detect(), tuple)


def test_this_machine_has_memory() -> None:
    machine = detection.cpu()
    assert machine.accelerator.kind == "cpu"
    assert machine.accelerator.memory > 0


class FakeNvml:
    """NVIDIA's management library on a machine with two cards, as far as it is asked."""

    def __init__(self, *cards: tuple[str, int]) -> None:
        self.cards = cards
        self.closed = False

    def nvmlInit_v2(self) -> int:  # noqa: N802 - the library's names
        return 0

    def nvmlShutdown(self) -> int:  # noqa: N802
        self.closed = True
        return 0

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:  # noqa: N802
        count._obj.value = len(self.cards)
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: Any, handle: Any) -> int:  # noqa: N802
        handle._obj.value = index.value + 1
        return 0

    def nvmlDeviceGetName(self, handle: Any, name: Any, _: Any) -> int:  # noqa: N802
        name.value = self.cards[handle.value - 1][0].encode()
        return 0

    def nvmlDeviceGetMemoryInfo(self, handle: Any, memory: Any) -> int:  # noqa: N802
        memory._obj.total = self.cards[handle.value - 1][1]
        return 0 if memory._obj.total else 1


def test_nvidia_cards_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Known cards have what the driver leaves of NVML's total; GB10 tells no memory; unknown ones are taken as told."""
    library = FakeNvml(
        ("NVIDIA GeForce RTX 4090", 24_564 * 2**20),
        ("NVIDIA GeForce RTX 4090", 24_564 * 2**20),
        ("NVIDIA GB10", 0),
        ("NVIDIA Something New", 48 * GIB),
    )
    monkeypatch.setattr(detection, "_load", lambda *_: library)
    found = {machine.accelerator.name: machine for machine in detection.detect()}
    assert found["RTX 4090"].count == 2
    assert found["RTX 4090"].accelerator.memory == find("RTX 4090").accelerator.memory
    assert found["DGX Spark"].accelerator.kind == "unified"
    assert found["NVIDIA Something New"].accelerator.memory == 48 * GIB
    assert library.closed


@pytest.mark.parametrize(
    ("limit", "memory", "expected"),
    [("0", 64 * GIB, 48 * GIB), ("57344", 64 * GIB, 56 * GIB), ("", 16 * GIB, 10_922 * 2**20)],
)
def test_apple_silicon_of_this_machine(limit: str, memory: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chip = "Apple M1 Max" if memory > 32 * GIB else "Apple M1"
    answers = {"machdep.cpu.brand_string": chip, "hw.memsize": str(memory), "iogpu.wired_limit_mb": limit}
    monkeypatch.setattr(detection, "_sysctl", answers.__getitem__)
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    (found,) = detection._apple()
    assert (found.vendor, found.memory) == ("apple", expected)
