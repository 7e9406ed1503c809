"""Accelerators as people write them, as drivers print them, and what cannot be understood."""

from __future__ import annotations

import pytest

from hfmem.errors import InvalidScenarioError
from hfmem.hardware.table import find
from hfmem.options.reading import cut
from hfmem.units import GIB, MIB


@pytest.mark.parametrize(
    ("spelling", "name", "count"),
    [
        ("H100", "H100 80GB", None),
        ("nvidia h100", "H100 80GB", None),
        ("H100-SXM", "H100 80GB", None),
        ("NVIDIA GeForce RTX 4090", "RTX 4090", None),
        ("rtx4090", "RTX 4090", None),
        ("4090", "RTX 4090", None),
        (" 4090 ", "RTX 4090", None),
        ("4090d", "RTX 4090D", None),
        ("RTX 5090 D", "RTX 5090D", None),
        ("3060 ti", "RTX 3060 Ti", None),
        ("7900 xtx", "RX 7900 XTX", None),
        ("b580", "Arc B580", None),
        ("680M", "Radeon 680M 32GB", None),  # a card before a size
        ("RTX-4090 24GB", "RTX 4090", None),
        ("RTX 4070 12GB", "RTX 4070", None),
        ("4060 ti 16 gb", "RTX 4060 Ti 16GB", None),
        ("a100 80g", "A100 80GB", None),
        ("a100 40GiB", "A100 40GB", None),
        ("M3 Max 36GB", "M3 Max 36GB", None),
        ("strix halo 64gb", "Ryzen AI Max+ 395 64GB", None),
        ("RTX 4090 mobile", "RTX 4090 Laptop", None),
        ("2x4090", "RTX 4090", 2),
        ("2 x 4090", "RTX 4090", 2),
        ("8xH100", "H100 80GB", 8),
        ("2 × A100 40GB", "A100 40GB", 2),
        ("4x L40S", "L40S", 4),
        ("L40S:4", "L40S", 4),
        ("RTX 4090 x2", "RTX 4090", 2),
        ("p5.48xlarge", "H100 80GB", 8),
        ("2x p5.48xlarge", "H100 80GB", 16),
        ("a2-ultragpu-2g", "A100 80GB", 2),
        ("standard_nd96isr_h200_v5", "H200", 8),
        ("a10g-largex4", "A10G", 4),
        ("nvidia-l4-x1", "L4", 1),
    ],
)
def test_as_people_write_them(spelling: str, name: str, count: int | None) -> None:
    found = find(spelling)
    assert (found.accelerator.name, found.count) == (name, count)


@pytest.mark.parametrize(
    ("printed", "name"),
    [
        ("NVIDIA A100-SXM4-40GB", "A100 40GB"),
        ("NVIDIA A100-PCIE-40GB", "A100 40GB"),
        ("NVIDIA A100 80GB PCIe", "A100 PCIe 80GB"),
        ("NVIDIA A800-SXM4-80GB", "A800 80GB"),
        ("NVIDIA H100 80GB HBM3", "H100 80GB"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA GH200 480GB", "GH200 96GB"),
        ("Tesla V100-SXM2-32GB", "V100 32GB"),
        ("Tesla P100-PCIE-16GB", "P100"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada"),
        ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", "RTX PRO 6000 Blackwell Max-Q"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX PRO 6000 Blackwell Server"),
        ("NVIDIA GeForce RTX 3050 6GB Laptop GPU", "RTX 3050 Laptop 6GB"),
        ("NVIDIA GB10", "DGX Spark"),
        ("AMD Radeon RX 7900 XTX", "RX 7900 XTX"),
        ("Radeon 8060S Graphics", "Ryzen AI Max+ 395 128GB"),
        ("Intel(R) Arc(TM) B580 Graphics", "Arc B580"),
    ],
)
def test_as_drivers_print_them(printed: str, name: str) -> None:
    assert find(printed).accelerator.name == name


@pytest.mark.parametrize(
    ("spelling", "name", "memory", "count"),
    [
        ("24GB", "24 GiB", 24 * GIB, None),
        ("24 gib", "24 GiB", 24 * GIB, None),
        ("24g", "24 GiB", 24 * GIB, None),
        ("24576MiB", "24 GiB", 24 * GIB, None),
        ("24000 MB", "23.44 GiB", 24_000 * MIB, None),
        ("7.5GB", "7.5 GiB", 15 * GIB // 2, None),
        ("24", "24 GiB", 24 * GIB, None),
        ("512", "512 GiB", 512 * GIB, None),
        ("1TB", "1024 GiB", 1024 * GIB, None),
        ("4x24GB", "24 GiB", 24 * GIB, 4),
    ],
)
def test_a_size_alone_is_a_budget(spelling: str, name: str, memory: int, count: int | None) -> None:
    found = find(spelling)
    row = found.accelerator
    assert (row.name, row.memory, row.vendor, row.basis, found.count) == (name, memory, "", "given", count)
    assert (row.compute_capability, row.bandwidth) == ("", None)


@pytest.mark.parametrize(
    ("spelling", "note"),
    [
        ("A100", "--gpu A100: the one with 80 GB is used; it is also sold with 40 GB."),
        ("8xA100", "--gpu A100: the one with 80 GB is used; it is also sold with 40 GB."),
        ("V100", "--gpu V100: the one with 16 GB is used; it is also sold with 32 GB."),
        ("M3 Max", "--gpu M3 Max: the one with 128 GB is used; it is also sold with 36, 48, 64 and 96 GB."),
        ("4060 ti", "--gpu 4060 ti: the one with 8 GB is used; it is also sold with 16 GB."),
        ("A100 80GB", ""),
        ("M3 Max 128GB", ""),
        ("H100", ""),
        ("RTX 4090", ""),
        ("p5.48xlarge", ""),
        ("24GB", ""),
    ],
)
def test_a_name_of_several_says_which_is_taken(spelling: str, note: str) -> None:
    assert find(spelling).note == note


def test_two_spellings_of_one_machine_are_one_machine() -> None:
    assert len({find("A100"), find("A100 80GB"), find("a100 80g")}) == 1


@pytest.mark.parametrize(
    ("spelling", "told"),
    [
        ("RTX 409", "did you mean RTX 4090 or"),
        ("H10", "did you mean H100 80GB or"),
        ("A10O", "did you mean A10 or"),
        ("p5.48xlrge", "did you mean p5.48xlarge"),
        ("RTX 6000", "RTX 6000 Ada"),  # three makes of card have that number
        ("6000", "RTX 6000 Ada"),
        ("RTX 4090 48GB", "it is sold with 24 GB"),
        ("M3 Max 40GB", "it is sold with 36, 48, 64, 96 and 128 GB"),
        ("513", ""),  # neither a card nor likely to be a memory
        ("0", ""),
        ("0GB", ""),
        ("0x H100", ""),
        ("", ""),
        ("x", ""),
        ("0x H100 and more", ""),
        ("24GB of memory", ""),
        ("9" * 5000, ""),
        ("9" * 5000 + "GB", ""),
        ("RTX 4090 " + "9" * 5000 + "GB", ""),
    ],
    ids=lambda text: text[:20],
)
def test_what_is_unknown_is_refused_with_what_may_be_meant(spelling: str, told: str) -> None:
    with pytest.raises(InvalidScenarioError) as refused:
        find(spelling)
    sentence = refused.value.reason
    assert sentence.startswith(f"--gpu '{cut(spelling)}' is not in the table")
    assert told in sentence
    assert sentence.endswith("--list-gpus shows all, and a size such as 24GB is a budget")
