"""The table of accelerators: rows that make sense and that their names find, and what is in a machine."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from hfmem.hardware import detect as detection
from hfmem.hardware.spelling import spelled
from hfmem.hardware.table import accelerators, find, instances, named
from hfmem.units import GIB
from tests.command import run


def test_there_are_enough_of_every_maker() -> None:
    rows = accelerators()
    assert len(rows) >= 350
    assert {row.vendor for row in rows} >= {"nvidia", "amd", "intel", "apple", "qualcomm", "google", "aws"}
    assert {row.kind for row in rows} == {"discrete", "unified"}


def test_the_readme_counts_them() -> None:
    """To the fifty below, so that a new row is one line."""
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert f"more than {(len(accelerators()) - 1) // 50 * 50} accelerators" in readme


@pytest.mark.parametrize("row", accelerators(), ids=lambda row: row.name)
def test_a_row_has_a_source_and_its_name_finds_it(row: Any) -> None:
    assert row.source
    assert GIB < row.memory < 512 * GIB
    assert row.basis in ("reading", "nominal")
    for spelling in (row.name, *row.aliases):
        assert find(spelling).accelerator == row


@pytest.mark.parametrize("row", accelerators(), ids=lambda row: row.name)
def test_a_row_has_sensible_figures_and_their_source(row: Any) -> None:
    shape = {"nvidia": r"\d{1,2}\.\d", "amd": r"gfx[0-9a-f]{3,4}"}.get(row.vendor, "")
    assert re.fullmatch(shape, row.compute_capability)
    assert row.spec_source
    assert row.bandwidth is not None or "not at hand" in row.spec_source
    assert row.bandwidth is None or 20e9 <= row.bandwidth <= 8e12
    # Metal keeps up to a third, integrated graphics get half, cards lose up to an eighth (error correction)
    assert (0.5 if row.kind == "unified" else 0.87) <= row.memory / GIB / row.nominal_gb <= 1


@pytest.mark.parametrize(
    "row", [row for row in accelerators() if " bit × " in row.spec_source[:10]], ids=lambda row: row.name
)
def test_a_bandwidth_is_the_bus_times_the_rate(row: Any) -> None:
    bits, rate = re.match(r"(\d+) bit × ([\d.]+) Gbit/s", row.spec_source).groups()
    assert row.bandwidth == pytest.approx(int(bits) * float(rate) / 8 * 1e9, rel=0.004)


def test_one_name_is_sold_with_each_memory_once() -> None:
    """The sizes of a name tell its rows apart, and one of them is meant where no size is written."""
    sizes: dict[str, list[int]] = {}
    for row in accelerators():
        sizes.setdefault(spelled(row.name).key, []).append(row.nominal_gb)
    assert {key: found for key, found in sizes.items() if len(found) != len(set(found))} == {}
    for key in sizes:
        assert named(key), key


def test_generations_follow_from_the_capability() -> None:
    """Overheads and engines' rules go by the generation: each capability is one."""
    found = {(row.compute_capability, row.generation) for row in accelerators() if row.vendor == "nvidia"}
    assert sorted(found, key=lambda pair: float(pair[0])) == [
        ("5.2", "maxwell"),
        ("5.3", "maxwell"),
        ("6.0", "pascal"),
        ("6.1", "pascal"),
        ("6.2", "pascal"),
        ("7.0", "volta"),
        ("7.2", "volta"),
        ("7.5", "turing"),
        ("8.0", "ampere"),
        ("8.6", "ampere"),
        ("8.7", "ampere"),
        ("8.9", "ada"),
        ("9.0", "hopper"),
        ("10.0", "blackwell"),
        ("10.3", "blackwell"),
        ("11.0", "blackwell-rtx"),
        ("12.0", "blackwell-rtx"),
        ("12.1", "blackwell-rtx"),
    ]


@pytest.mark.parametrize("row", instances(), ids=lambda row: row.name)
def test_an_instance_finds_its_accelerators(row: Any) -> None:
    found = find(row.name)
    assert (found.accelerator.name, found.count, found.instance) == (row.gpu, row.count, row.name)
    assert row.source


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
    ("name", "mebibytes", "row", "expected"),
    [
        ("NVIDIA GeForce RTX 3080", 10_240, "RTX 3080", 10_015),  # a reading, which is what the driver leaves
        ("NVIDIA GeForce RTX 3080", 12_288, "RTX 3080 12GB", 12_288),
        ("NVIDIA GeForce RTX 4060 Ti", 16_380, "RTX 4060 Ti 16GB", 16_380),
        ("NVIDIA GeForce RTX 3080 Laptop GPU", 16_384, "RTX 3080 Laptop 16GB", 16_384),
        ("NVIDIA GeForce RTX 4090", 49_140, "RTX 4090", 49_140),  # with more than it is sold with
    ],
)
def test_the_memory_tells_which_card_of_a_name_it_is(
    name: str, mebibytes: int, row: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detection, "_load", lambda *_: FakeNvml((name, mebibytes * 2**20)))
    (machine,) = detection.detect()
    assert (machine.accelerator.name, machine.accelerator.memory // 2**20) == (row, expected)
    assert (machine.accelerator.basis, machine.accelerator.compute_capability) == (
        "detected",
        find(row).accelerator.compute_capability,
    )


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


def test_the_list_tells_capability_and_bandwidth() -> None:
    listed = json.loads(run("--list-gpus", "--format", "json").stdout)["gpus"]
    row = next(row for row in listed if row["name"] == "RTX 4090")
    assert (row["compute_capability"], row["bandwidth"], row["nominal_gb"]) == ("8.9", 1_008_000_000_000, 24)
    assert len(listed) == len(accelerators())
