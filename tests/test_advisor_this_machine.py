"""The local device is read from whatever /proc/cpuinfo says, and never fails."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.this_machine import NAME, detect, device_from
from rules.facts import Device
from tests import rules_for_tests  # noqa: F401  (no deadlines)

VNNI = "processor : 0\nmodel name\t: AMD EPYC\ncpu MHz\t\t: 2596.148\nflags\t\t: fpu sse2 avx2 avx512f avx512_vnni\n"
HASWELL = "model name : Intel(R) Core(TM) i5-4570\ncpu MHz : 3200.0\nflags : fpu sse2 avx avx2\n"
PI5 = "processor : 0\nFeatures : fp asimd evtstrm aes asimddp\nCPU part : 0xd0b\n\nModel : Raspberry Pi 5 Model B Rev 1.0\n"


def read(text: str, machine: str = "x86_64") -> Device:
    return device_from(text, machine=machine, cores=4, ram_bytes=8 * 10**9)


def test_a_processor_with_vnni_takes_signed_weights_and_blocks_of_sixteen():
    device = read(VNNI)
    assert device.isa == ("x86-64", "avx2", "avx512", "avx512-vnni")
    assert (device.integer_format, device.align) == ("u8s8", 16)
    assert "AMD EPYC" in device.title


def test_an_x86_without_vnni_takes_unsigned_weights_because_signed_ones_saturate():
    device = read(HASWELL)
    assert device.isa == ("x86-64", "avx2")
    assert (device.integer_format, device.align) == ("u8s8-reduced", 8)
    assert device.rates["int8"].value < 2 * device.rates["fp32"].value


def test_an_arm_board_is_known_by_its_features():
    device = read(PI5, "aarch64")
    assert device.isa == ("aarch64", "neon", "dotprod")
    assert device.integer_format == "u8s8" and "Raspberry Pi 5" in device.title


def test_without_cpuinfo_a_small_machine_is_assumed():
    assert read("", "arm64").isa == ("aarch64", "neon", "dotprod")
    assert read("", "riscv64").isa == ("riscv64",)
    assert read("", "").isa == ("unknown",)


def test_every_rate_is_an_estimate_with_a_source():
    for text in (VNNI, HASWELL, PI5, ""):
        assert set(read(text).rates) == {"fp32", "int8", "memory", "node"}
        assert all(rate.kind == "estimate" and rate.source == NAME and rate.value > 0 for rate in read(text).rates.values())


@given(
    st.text()
    | st.lists(
        st.sampled_from(
            ["flags : avx2", "cpu MHz : nan", "cpu MHz : inf", "cpu MHz : x", "cpu MHz : -5", "cpu MHz : 1e999", "Features:", ":"]
        )
    ).map("\n".join),
    st.text(max_size=9),
)
def test_no_text_of_cpuinfo_makes_it_fail(text, machine):
    device = read(text, machine)
    assert device.name == NAME and all(rate.value > 0 for rate in device.rates.values())


def test_this_machine_is_read_once_and_has_what_a_device_needs():
    device = detect()
    assert device is detect()
    assert device.cores >= 1 and device.ram_bytes > 0 and device.isa and "int8" in device.precisions


@pytest.mark.parametrize("missing", ["sched_getaffinity", "sysconf", "uname"])
def test_a_system_without_these_calls_is_read_all_the_same(monkeypatch, missing):
    import os

    monkeypatch.delattr(os, missing)
    detect.cache_clear()
    try:
        assert detect().cores >= 1
    finally:
        detect.cache_clear()
