"""ggml's scheduler and allocator by hand: what lies where, step by step."""

from __future__ import annotations

from hfmem.engines.llamacpp.allocator import HOST, Device, Step, compute_buffers
from hfmem.engines.llamacpp.allocator import _Buffer as Buffer

PLAIN = Device()
OFFLOADS = Device(alignment=128, offloads=True)


def host(inputs: list[int], *steps: Step) -> int:
    """The buffer where there is nothing but the host."""
    (size,) = compute_buffers(inputs, steps, ())
    return size


def test_sizes_are_rounded_up_to_the_alignment() -> None:
    assert host([100]) == 128
    assert host([100, 1], Step(nbytes=33, reads=())) == 128 + 32 + 64
    assert compute_buffers([], [Step(nbytes=1, reads=(), place=0)], [OFFLOADS]) == (128, 0)


def test_what_is_read_for_the_last_time_is_free_for_the_next() -> None:
    # the input at 0 to 128, the first result at 128 to 192, the second at 0 again
    assert host([128], Step(nbytes=64, reads=(-1,)), Step(nbytes=64, reads=(0,))) == 192
    # … where the second reads the input too, it cannot
    assert host([128], Step(nbytes=64, reads=(-1,)), Step(nbytes=64, reads=(0, -1))) == 256


def test_the_smallest_hole_that_fits_is_taken() -> None:
    # 128 at 0, 32 that stay at 128, 64 at 160, 32 that stay at 224, and the first result at 256 to 288
    inputs = [128, 32, 64, 32]
    first = Step(nbytes=32, reads=(-1, -3))
    into_the_small_hole, into_the_large_one = Step(nbytes=64, reads=(0,)), Step(nbytes=128, reads=(1, -2, -4))
    assert host(inputs, first, into_the_small_hole, into_the_large_one) == 288
    # a little more goes into the large hole, and the other behind what stays: the first result is free by then
    assert host(inputs, first, Step(nbytes=96, reads=(0,)), into_the_large_one) == 256 + 128


def test_free_blocks_beside_each_other_become_one() -> None:
    # 64 and 64 beside each other make 128; 32 stay at 128, and the first result is at 160 to 192
    steps = (Step(nbytes=32, reads=(-1, -2)), Step(nbytes=128, reads=(0, -3)))
    assert host([64, 64, 32], *steps) == 192
    # with what stays between them they do not
    steps = (Step(nbytes=32, reads=(-1, -3)), Step(nbytes=128, reads=(0, -2)))
    assert host([64, 32, 64], *steps) == 192 + 128


def test_a_block_at_the_end_joins_what_has_no_end() -> None:
    # 32 at 0; 64 at 32 to 96; 32 at 0; then 128 from 32 on
    steps = (Step(nbytes=64, reads=(-1,)), Step(nbytes=32, reads=(0,)), Step(nbytes=128, reads=(1,)))
    assert host([32], *steps) == 32 + 128


def test_a_result_takes_the_place_of_what_it_is_made_of() -> None:
    first = Step(nbytes=64, reads=(-1,))
    assert host([32], first, Step(nbytes=64, reads=(0,), replaces=(0,))) == 32 + 64
    assert host([32], first, Step(nbytes=64, reads=(0,))) == 32 + 64 + 64


def test_a_result_does_not_replace_what_is_read_again_or_kept() -> None:
    replacing = Step(nbytes=64, reads=(0,), replaces=(0,))
    again = Step(nbytes=32, reads=(0, 1))
    # 32 of the input are free at 0 when the last needs 32
    assert host([32], Step(nbytes=64, reads=(-1,)), replacing, again) == 32 + 64 + 64
    assert host([32], Step(nbytes=64, reads=(-1,), output=True), replacing) == 32 + 64 + 64


def test_what_is_kept_to_the_end_is_not_freed() -> None:
    steps = [Step(nbytes=64, reads=(-1,)), Step(nbytes=64, reads=(0,)), Step(nbytes=64, reads=(1,))]
    assert host([64], *steps) == 128
    kept = [Step(nbytes=64, reads=(-1,), output=True), *steps[1:]]
    assert host([64], *kept) == 64 + 64 + 64


def test_a_step_that_writes_into_a_cache_takes_nothing() -> None:
    assert host([64], Step(nbytes=None, reads=(-1,)), Step(nbytes=64, reads=())) == 64


def test_inputs_are_copied_to_the_device_that_reads_them() -> None:
    steps = [Step(nbytes=32, reads=(-1,), place=0), Step(nbytes=32, reads=(0, -1), place=0)]
    # one copy for both readings; the results are 32 each
    assert compute_buffers([64], steps, [PLAIN]) == (64 + 32 + 32, 64)


def test_results_are_copied_to_the_next_device() -> None:
    steps = [Step(nbytes=96, reads=(-1,), place=0), Step(nbytes=32, reads=(0,), place=1)]
    assert compute_buffers([64], steps, [PLAIN, PLAIN]) == (64 + 96, 96 + 32, 64)


def test_four_batches_at_once_have_four_copies_of_inputs() -> None:
    steps = [Step(nbytes=96, reads=(-1,), place=0), Step(nbytes=32, reads=(0,), place=1)]
    found = compute_buffers([64], steps, [PLAIN, PLAIN], copies=4)
    assert found == (4 * 64 + 96, 4 * 96 + 32, 4 * 64)


def test_steps_without_weights_run_where_the_one_before_them_does() -> None:
    free = Step(nbytes=32, reads=())
    # the first has none before it: where the next one is; the one after the host's stays on the host
    steps = [free, Step(nbytes=32, reads=(), place=0), free, Step(nbytes=32, reads=(), place=HOST), free]
    assert compute_buffers([], steps, [PLAIN]) == (3 * 32, 2 * 32)


def test_devices_come_before_the_host() -> None:
    free = Step(nbytes=32, reads=())
    steps = [Step(nbytes=32, reads=(), place=HOST), free, Step(nbytes=32, reads=(), place=0)]
    # what lies between host and device is the device's
    assert compute_buffers([], steps, [PLAIN]) == (2 * 32, 32)


def test_large_batches_copy_weights_of_the_host_to_a_gpu() -> None:
    step = Step(nbytes=128, reads=(-1,), place=HOST, copied=(("w", 1000),), rows=32)
    # 128 of the input, 1,000 of the weights in 1,024, and 128 of the result
    assert compute_buffers([128], [step], [OFFLOADS]) == (128 + 1024 + 128, 128)
    assert compute_buffers([128], [step], [PLAIN]) == (0, 256)


def test_small_batches_run_where_the_weights_are() -> None:
    step = Step(nbytes=128, reads=(-1,), place=HOST, copied=(("w", 1000),), rows=31)
    assert compute_buffers([128], [step], [OFFLOADS]) == (0, 256)


def test_weights_of_two_steps_are_not_there_at_the_same_time() -> None:
    one, two = (
        Step(nbytes=128, reads=(read,), place=HOST, copied=((name, 1024),), rows=512)
        for read, name in ((-1, "a"), (0, "b"))
    )
    # the input's copy and the first's weights are free when the second's come, 1,024 at 128 to 1,152 for both
    assert compute_buffers([128], [one, two], [OFFLOADS]) == (128 + 1024 + 128, 128)


def test_a_block_of_no_size_keeps_its_neighbours_apart() -> None:
    """`ggml_dyn_tallocr_free_bytes` joins a block with one side's neighbour, not with both across an empty one."""
    buffer = Buffer(alignment=32)
    assert [buffer.take(size) for size in (32, 0, 32, 32)] == [0, 32, 32, 64]
    for place, size in ((32, 32), (0, 32), (32, 0)):  # the empty one lies inside of the free block then
        buffer.give(place, size)
    buffer.give(64, 32)  # joins the free block, and that not what is behind it
    assert buffer.take(128) == 96


def test_an_input_that_no_one_sets_is_made_on_its_device() -> None:
    steps = (Step(nbytes=64, reads=(-1,), replaces=(-1,), place=0),)
    assert compute_buffers([64], steps, [PLAIN], homes={0: 0}) == (64, 0)
    assert compute_buffers([64], steps, [PLAIN]) == (64, 64)
